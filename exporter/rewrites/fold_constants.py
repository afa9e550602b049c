"""Everything that depends on no input is computed now: f(constants) -> a constant.

Before: relative position bias gathered and transposed from its table, sine positions, transposed weights.
After: one constant each. onnx-graphsurgeon evaluates the nodes with ONNX Runtime.

Matches: nodes that are computed away. Refused: random numbers, and a node that only repeats what it is given (an
Expand of one row to a batch) into more than ``LIMIT`` bytes.
"""

from __future__ import annotations

from math import prod

import onnx_graphsurgeon as gs

from exporter.surgery import Shapes, constant

LIMIT = 64 * 1024 * 1024

REPEATS = frozenset({"Expand", "Tile", "ConstantOfShape", "Range", "Resize"})
RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of nodes that were computed away."""
    graph.cleanup()  # what nothing reads is no match
    for tensor in graph.tensors().values():
        _ = constant(tensor)  # onnx-graphsurgeon runs what it folds: values that are only referred to must be there
    known = shapes(1).shapes

    def excluded(node: gs.Node) -> bool:
        if node.op not in REPEATS:
            return node.op in RANDOM
        shape = known.get(node.outputs[0].name)
        return shape is None or -1 in shape or prod(shape) * 4 > LIMIT

    before = {id(node) for node in graph.nodes}
    graph.fold_constants(fold_shapes=False, size_threshold=None, should_exclude_node=excluded).cleanup().toposort()
    return len(before - {id(node) for node in graph.nodes})
