"""Reshape(x, Concat(Mul(Shape(input)[0], 64), 7, 7, C)) -> Reshape(x, [-1, 7, 7, C]).

Before: an exporter with a symbolic batch writes the arithmetic that computes each shape, each Slice's bounds and
each Range's end into the graph. After: they are constants, with at most one -1 in a Reshape's target; the
arithmetic is dead and goes away.

Matches: every integer tensor that is computed and has one and the same value at several batches; every Reshape
with a computed target whose output shape is known at those batches and differs in at most one axis. The element
count fixes that axis, so -1 is exact at any batch.

Refused: a tensor that depends on the data (it has no inferred value); a target in which two axes vary, which one
-1 cannot express; an axis of size 0.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from exporter.surgery import Probes, Shapes


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of tensors that became constants."""
    inferred = list(Probes(shapes))
    return _batch_free_values(graph, inferred) + _reshape_targets(graph, inferred)


def _batch_free_values(graph: gs.Graph, inferred: list) -> int:
    matches = 0
    for node in graph.nodes:
        for index, tensor in enumerate(node.inputs):
            if isinstance(tensor, gs.Constant) or not tensor.inputs:
                continue
            seen = [found.values.get(tensor.name) for found in inferred]
            if seen[0] is None or any(v is None or not np.array_equal(v, seen[0]) for v in seen):
                continue
            node.inputs[index] = gs.Constant(f"{node.outputs[0].name}/{tensor.name}", np.ascontiguousarray(seen[0]))
            matches += 1
    return matches


def _reshape_targets(graph: gs.Graph, inferred: list) -> int:
    matches = 0
    for node in graph.nodes:
        if node.op != "Reshape" or isinstance(node.inputs[1], gs.Constant):
            continue
        seen = [found.shapes.get(node.outputs[0].name) for found in inferred]
        if any(shape is None or min(shape, default=1) <= 0 for shape in seen):
            continue
        target = [sizes[0] if len(set(sizes)) == 1 else -1 for sizes in zip(*seen, strict=True)]
        if target.count(-1) > 1:
            continue
        node.inputs[1] = gs.Constant(f"{node.outputs[0].name}/shape", np.array(target, dtype=np.int64))
        node.attrs.pop("allowzero", None)
        matches += 1
    return matches
