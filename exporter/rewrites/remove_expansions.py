"""Expand(x) + y -> x + y, where the operator broadcasts by itself.

Before: an Expand to the other operand's shape, which exporters write for in-place and normalising operators; its
shape is often computed from the batch. After: the elementwise operator alone.

Matches: operands that are read before their Expand. Refused: an Expand that makes the result larger than the other
operands do at any probed batch.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from exporter.surgery import Probes, Shapes, tidy

BROADCAST = frozenset("Add Sub Mul Div Pow Max Min Where Equal Less Greater And Or".split())


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of operands that need no Expand."""
    inferred = Probes(shapes)
    matches = 0
    for node in graph.nodes:
        if node.op not in BROADCAST:
            continue
        for index, tensor in enumerate(node.inputs):
            if not tensor.inputs or tensor.inputs[0].op != "Expand":
                continue
            inputs = [*node.inputs]
            inputs[index] = tensor.inputs[0].inputs[0]
            if all(_makes(found.shapes, inputs, node.outputs[0]) for found in inferred):
                node.inputs[index] = inputs[index]
                matches += 1
    tidy(graph)
    return matches


def _makes(known: dict, inputs: list[gs.Tensor], result: gs.Tensor) -> bool:
    """Whether the operands broadcast to the result's shape."""
    shape = _broadcast(known, inputs)
    return shape is not None and shape == known.get(result.name)


def _broadcast(known: dict, tensors: list[gs.Tensor]) -> tuple[int, ...] | None:
    """The shape that operands broadcast to, or None where one is not known."""
    found = [t.shape if isinstance(t, gs.Constant) else known.get(t.name) for t in tensors]
    if any(shape is None or -1 in shape for shape in found):
        return None
    try:
        return np.broadcast_shapes(*map(tuple, found))
    except ValueError:
        return None
