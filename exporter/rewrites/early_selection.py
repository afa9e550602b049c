"""Rows that nobody reads are not computed: the class token is chosen before the last block's MLP, not after the norm.

Before: a residual sum, LayerNorm, MLP, its sum and the final LayerNorm on all tokens, of which a Gather or Slice then
takes the class token (or class and distillation token). After: the Gather takes it from the first residual sum, and
the rest runs on one row an image. The numbers are the same, since each row is computed from itself. ViT-B has 5.3 %
fewer matrix FLOPs: most of one block of twelve.

The selection rises past row-wise operators (:mod:`exporter.rowwise`) that nothing else reads, up to the highest tensor
through which all of them go; above it, attention reads every token. Learned from TensorRT-RTX 1.7: the selection is a
copy of its own wherever it is, so higher is better; but past the attention's projection it would be two copies, of the
attention's result and of the residual, and ViT-Ti at batch 32 had 102 kernels in place of 101.

Matches: operators that a selection moved past. Refused: a selection along the columns or the batch, or along an axis
that grows with it; a value that something else reads, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from exporter.emit import Emitter, replace
from exporter.moves import MOVES, is_move
from exporter.rowwise import row_inputs
from exporter.surgery import Shapes, constant, tidy


@dataclass(frozen=True)
class Selection:
    """``node`` takes the rows ``index`` along ``axis`` of its input."""

    node: gs.Node
    axis: int
    index: np.ndarray


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of operators that selections moved past."""
    tidy(graph)
    matches = 0
    for tensor in list(graph.tensors().values()):
        selections = _selections(graph, tensor, shapes)
        if selections:
            passed, top = _passed(graph, tensor, shapes)
            if passed:
                _raise(graph, selections, tensor, passed, top)
                matches += len(passed)
    tidy(graph)
    return matches


def _selections(graph: gs.Graph, tensor: gs.Tensor, shapes: Shapes) -> list[Selection]:
    """The selections that are all of a tensor's readers and leave some of its rows unread, else nothing."""
    shape, other = (shapes(batch).shapes.get(tensor.name) for batch in (2, 3))
    if not shape or not other or min(shape) < 1 or not tensor.outputs or any(tensor is t for t in graph.outputs):
        return []
    found = [_selection(node, shape) if node.inputs[0] is tensor else None for node in tensor.outputs]
    if any(f is None for f in found) or len({f.axis for f in found}) > 1:
        return []
    axis = found[0].axis
    proper = axis not in (0, len(shape) - 1) and shape[axis] == other[axis]
    return found if proper and 0 < len(_union(found)) < shape[axis] else []


def _selection(node: gs.Node, shape: tuple[int, ...]) -> Selection | None:
    """What a Gather or Slice takes along one axis of a tensor of this shape."""
    if node.op not in ("Gather", "Slice") or not is_move(node):
        return None
    if node.op == "Gather":
        axis = node.attrs.get("axis", 0) % len(shape)
        return Selection(node, axis, constant(node.inputs[1]) % shape[axis])
    taken = [MOVES["Slice"](node, [places], 0) for places in map(np.broadcast_to, _places(shape), [shape] * len(shape))]
    cut = [axis for axis, size in enumerate(shape) if taken[0].shape[axis] < size]
    if len(cut) != 1:
        return None
    if taken[0].size == 0:
        return None
    at = tuple(slice(None) if axis == cut[0] else 0 for axis in range(len(shape)))
    return Selection(node, cut[0], taken[cut[0]][at])


def _places(shape: tuple[int, ...]) -> list[np.ndarray]:
    """For each axis, every element's place on it."""
    return [np.arange(n).reshape([-1 if i == axis else 1 for i in range(len(shape))]) for axis, n in enumerate(shape)]


def _union(selections: list[Selection]) -> np.ndarray:
    """Every row that is read, in order."""
    return np.unique(np.concatenate([s.index.reshape(-1) for s in selections]))


def _passed(graph: gs.Graph, bottom: gs.Tensor, shapes: Shapes) -> tuple[list[gs.Node], gs.Tensor]:
    """(the operators from ``bottom`` up to the highest tensor that all of them hang on, that tensor)."""
    passed: list[gs.Node] = []
    inside: set[int] = {id(node) for node in bottom.outputs}
    frontier: dict[int, gs.Tensor] = {id(bottom): bottom}
    best: tuple[int, gs.Tensor] = (0, bottom)
    for node in reversed(graph.nodes):
        if len(node.outputs) != 1 or id(node.outputs[0]) not in frontier:
            continue
        sources = _sources(graph, node, inside, shapes)
        if sources is None:
            continue
        inside.add(id(node))
        passed.append(node)
        del frontier[id(node.outputs[0])]
        frontier |= {id(t): t for t in sources}
        if len(frontier) == 1:
            best = (len(passed), next(iter(frontier.values())))
    return passed[: best[0]], best[1]


def _sources(graph: gs.Graph, node: gs.Node, inside: set[int], shapes: Shapes) -> list[gs.Tensor] | None:
    """The operands whose rows a node maps to its own, if nobody outside reads its result; else None."""
    result, known = node.outputs[0], shapes(2).shapes
    if any(id(reader) not in inside for reader in result.outputs) or any(result is t for t in graph.outputs):
        return None
    first = next((known.get(t.name) for t in node.inputs if constant(t) is None), None)
    rows = row_inputs(node, len(first), first[-1]) if first else None
    sources = [node.inputs[i] for i in rows] if rows else []
    lead = known[result.name][:-1] if result.name in known else None
    alike = all(known.get(t.name) is not None and known[t.name][:-1] == lead for t in sources)
    return sources if sources and lead and alike else None


def _raise(
    graph: gs.Graph, selections: list[Selection], bottom: gs.Tensor, passed: list[gs.Node], top: gs.Tensor
) -> None:
    axis, rows = selections[0].axis, _union(selections)
    e, (first, last) = Emitter(graph, passed[-1]), (int(rows[0]), int(rows[-1]) + 1)
    if last - first == len(rows):
        chosen = e.op("Slice", top, *(np.array([n], np.int64) for n in (first, last, axis)))
    else:
        chosen = e.op("Gather", top, rows, axis=axis)
    for node in passed:
        node.inputs = [chosen if t is top else t for t in node.inputs]
        node.outputs[0].shape = None  # no longer what the graph says of it
    for selection in selections:
        e, place = Emitter(graph, selection.node), np.searchsorted(rows, selection.index)
        result = selection.node.outputs[0]
        selection.node.inputs.clear()
        selection.node.outputs.clear()
        if place.ndim == 1 and np.array_equal(place, np.arange(len(rows))):
            made = bottom
        elif place.ndim == 0 and len(rows) == 1:
            made = e.op("Squeeze", bottom, np.array([axis], np.int64))
        else:
            made = e.op("Gather", bottom, place, axis=axis)
        replace(graph, result, made)
        if made is bottom and any(result is t for t in graph.outputs):
            bottom = result  # it has the output's name now
