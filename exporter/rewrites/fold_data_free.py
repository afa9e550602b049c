"""What no pixel reaches is a constant, however many images there are: x + positions(shape of x) -> x + a constant.

Before: sine positions from a mask of ones that is as large as the batch, an attention mask that is expanded to it.
After: one constant with 1 for its batch axis, which the operator that reads it broadcasts.

Matches: operands of elementwise operators that no input's data reaches and whose value is the same for each image.
Refused: operands that an operator would not broadcast to the same result; a value that differs between batches.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from exporter.datafree import DataFree
from exporter.rewrites.remove_expansions import BROADCAST
from exporter.surgery import Shapes, tidy

BATCHES = (1, 2, 3)


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of operands that became constants."""
    free, matches = DataFree(graph, shapes), 0
    made: dict[int, gs.Constant] = {}
    for node in graph.nodes:
        if node.op not in BROADCAST or all(map(free.holds, node.inputs)):
            continue
        for index, tensor in enumerate(node.inputs):
            if isinstance(tensor, gs.Constant) or not free.holds(tensor):
                continue
            if id(tensor) not in made:
                value = _of_one_image(tensor, free)
                if value is None:
                    continue
                made[id(tensor)] = gs.Constant(f"{tensor.name}/folded", value)
            if _same_result(node, index, made[id(tensor)], shapes):
                node.inputs[index] = made[id(tensor)]
                matches += 1
    tidy(graph)
    return matches


def _of_one_image(tensor: gs.Tensor, free: DataFree) -> np.ndarray | None:
    """The value that is repeated for each image, with 1 for the axis that repeats it; None where there is none."""
    values = [free.value(tensor, batch) for batch in BATCHES]
    if any(v is None for v in values):
        return None
    first = values[0]
    if all(np.array_equal(first, v) for v in values):
        return first
    for value, batch in zip(values, BATCHES, strict=True):
        if value.ndim == 0 or value.shape != (batch, *first.shape[1:]) or not (value == first[:1]).all():
            return None
    return first


def _same_result(node: gs.Node, index: int, constant: gs.Constant, shapes: Shapes) -> bool:
    """Whether the operator's result keeps its shape when the other operands alone bring the batch."""
    for batch in BATCHES:
        known = shapes(batch).shapes
        operands = [constant if i == index else t for i, t in enumerate(node.inputs)]
        sizes = [t.shape if isinstance(t, gs.Constant) else known.get(t.name) for t in operands]
        if any(s is None or -1 in s for s in sizes) or np.broadcast_shapes(*map(tuple, sizes)) != known.get(
            node.outputs[0].name
        ):
            return False
    return True
