"""A permutation of tokens as Reshape, Slice, Concat and Transpose in place of a Gather.

Before: Gather(x (B, T, C), a list of T indices, axis 1), as :mod:`exporter.rewrites.cancel_permutations` writes it.
After: x as a grid of windows put back into rows, a shift along each axis (two Slices and a Concat), and the grid cut
into windows again; each step only where the permutation has it (:func:`exporter.permutations.factored`).

A variant that ``make tune`` tries on the winning form; no step of any default. Learned from TensorRT-RTX 1.7: either
becomes as many kernels. Swin-T, FP16, sm80: 96 with both, at batch 1 and 1:8:32; what is saved are the lists of
indices (25 kB of 719 MB at batch 8).

Matches: one for each Gather. Refused, with the reason recorded: indices that repeat or leave out a token, and
permutations that are no two exchanges of axes and a shift.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from exporter.emit import Emitter, replace
from exporter.errors import Refusal
from exporter.permutations import Exchange, Movement, factored
from exporter.surgery import Shapes, constant, each, join_reshapes, tidy


def apply(graph: gs.Graph, shapes: Shapes, refused: dict | None = None) -> int:
    """Rewrite in place; returns the number of Gathers; ``refused`` is filled with reasons by node name."""
    known: dict[bytes, list[Movement] | None] = {}
    matches = each(graph, "Gather", lambda gather: _slice(graph, gather, shapes, known), refused)
    join_reshapes(graph)
    tidy(graph)
    return matches


def _slice(graph: gs.Graph, gather: gs.Node, shapes: Shapes, known: dict[bytes, list[Movement] | None]) -> bool:
    """Rewrite one Gather; ``known`` are the permutations that were looked at before."""
    index = constant(gather.inputs[1])
    shape, other = (shapes(batch).shapes.get(gather.inputs[0].name) for batch in (1, 2))
    if index is None or index.ndim != 1 or not shape or not other or shape[1:] != other[1:]:
        return False
    if len(shape) != 3 or gather.attrs.get("axis", 0) % 3 != 1:
        return False
    index = np.where(index < 0, index + shape[1], index)
    if not np.array_equal(np.sort(index), np.arange(shape[1])):
        raise Refusal("its indices are no permutation")
    key = index.tobytes()
    if key not in known:
        known[key] = factored(index)
    if known[key] is None:
        raise Refusal("its permutation is no two exchanges of axes and a shift")
    _write(graph, gather, known[key], shape[1], shape[2])
    return True


def _write(graph: gs.Graph, node: gs.Node, movements: list[Movement], count: int, width: int) -> None:
    e, tensor = Emitter(graph, node), node.inputs[0]
    for movement in movements:
        tensor = e.reshape(tensor, -1, *movement.shape, width)
        if isinstance(movement, Exchange):
            tensor = e.transpose(tensor, 0, *(a + 1 for a in movement.axes), len(movement.axes) + 1)
        else:
            for axis, start in enumerate(movement.start, 1):
                tensor = _rolled(e, tensor, axis, start, movement.shape[axis - 1])
    replace(graph, node.outputs[0], e.reshape(tensor, -1, count, width))


def _rolled(e: Emitter, tensor: gs.Tensor, axis: int, start: int, size: int) -> gs.Tensor:
    if not start:
        return tensor
    parts = [
        e.op("Slice", tensor, *(np.array([n], np.int64) for n in (first, last, axis)))
        for first, last in ((start, size), (0, start))
    ]
    return e.op("Concat", *parts, axis=axis)
