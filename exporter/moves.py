"""What a region of data movement does, found by running it on indices instead of by recognising its parts.

A roll written as Slices and a Concat, a window partition written as Reshape and Transpose, a patch merging written as
four strided Slices: each of them is one map from the places of its result to the places of its source. Two exporters
that write it in different ways give the same map, so a rewrite that matches maps matches both.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from exporter.surgery import Shapes, constant

LIMIT = 1 << 25
"""Elements above which a region is not evaluated (a map of 128 MiB)."""

KEPT = 1 << 28
"""Bytes of maps that are kept for a network's other blocks, whose regions are alike."""

BATCH = 2


@dataclass(frozen=True)
class Map:
    """``result.flat[i] == factor * source.flat[places.flat[i]]`` at one batch; ``places`` has the result's shape."""

    source: gs.Tensor
    source_shape: tuple[int, ...]
    places: np.ndarray
    kind: Hashable
    """Maps of one :class:`Maps` that are of one kind have the same places."""
    factor: float = 1.0


class Maps:
    """Maps of a graph's tensors, evaluated when they are asked for. ``shapes`` is as a rewrite gets it."""

    def __init__(self, shapes: Shapes):
        self._shapes = shapes
        self._kinds: dict[tuple, int] = {}
        self._known: dict[int, np.ndarray | None] = {}

    def of(self, tensor: gs.Tensor, batch: int, factors: bool = False) -> Map | None:
        """The map of ``tensor`` back to the one tensor that its region moves, or None where there is no such map.

        ``factors`` looks through multiplications by a scalar constant, too.
        """
        source, factor = self._source(tensor, factors)
        shape = self._shapes(batch).shapes.get(source.name) if source is not None else None
        if shape is None or min(shape, default=1) < 1 or np.prod(shape, dtype=np.int64) > LIMIT:
            return None
        kind = self._kind(tensor, source, shape, factors)
        if kind not in self._known:
            if sum(map(_held, self._known.values())) > KEPT:
                self._known.clear()
            self._known[kind] = self._places(tensor, source, shape, factors)
        places = self._known[kind]
        return None if places is None else Map(source, tuple(shape), places, kind, factor)

    def keeps_columns(self, node: gs.Node) -> bool:
        """Whether movement leaves the last axis as it is: whole rows go to other places."""
        shape = self._shapes(BATCH).shapes.get(node.inputs[0].name)
        if shape is None or min(shape, default=0) < 1 or np.prod(shape, dtype=np.int64) > LIMIT:
            return False
        columns = np.broadcast_to(np.arange(shape[-1], dtype=np.int32), shape)
        moved = MOVES[node.op](node, [columns], 0)
        return moved.shape[-1:] == shape[-1:] and bool((moved == np.arange(shape[-1])).all())

    def _source(self, tensor: gs.Tensor, factors: bool) -> tuple[gs.Tensor | None, float]:
        """The tensor where movement begins, going up from ``tensor``; (None, 1) where two begin."""
        factor = 1.0
        while not isinstance(tensor, gs.Constant) and tensor.inputs:
            node = tensor.inputs[0]
            scale = scalar_factor(node) if factors else None
            if scale is not None:
                factor *= scale[1]
                tensor = scale[0]
            elif node.op == "Concat":
                found = {id(s): s for s, f in (self._source(t, False) for t in node.inputs) if s is not None}
                if len(found) != 1 or any(isinstance(t, gs.Constant) for t in node.inputs):
                    return tensor, factor
                return next(iter(found.values())), factor
            elif is_move(node):
                tensor = node.inputs[0]
            else:
                break
        return tensor, factor

    def _kind(self, tensor: gs.Tensor, source: gs.Tensor, shape: tuple, factors: bool) -> int:
        """The same for regions of the same structure: the same steps, by the same constants, from the same shape."""
        key: tuple = tuple(shape)
        if tensor is not source:
            node = tensor.inputs[0]
            data, scaled = _data(node, factors)
            inputs = [self._kind(t, source, shape, factors) for t in data]
            if scaled:
                return inputs[0]
            attrs = repr({name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in node.attrs.items()})
            by = [_contents(constant(t)) for t in node.inputs[len(data) :]]
            key = (node.op, attrs, len(node.outputs), node.outputs.index(tensor), *inputs, *by)
        return self._kinds.setdefault(key, len(self._kinds))

    def _places(self, tensor: gs.Tensor, source: gs.Tensor, shape: tuple, factors: bool) -> np.ndarray | None:
        if tensor is source:
            return np.arange(np.prod(shape, dtype=np.int64), dtype=np.int32).reshape(shape)
        node = tensor.inputs[0]
        data, scaled = _data(node, factors)
        inputs = [self._places(t, source, shape, factors) for t in data]
        if any(places is None for places in inputs):
            return None
        if scaled:
            return inputs[0]
        try:
            return MOVES[node.op](node, inputs, node.outputs.index(tensor))
        except (ValueError, IndexError):  # a batch that this region cannot take
            return None


def _held(places: np.ndarray | None) -> int:
    """Bytes that an array keeps from being freed: those of the whole that it is a view of."""
    return 0 if places is None else places.nbytes if places.base is None else places.base.nbytes


def _contents(values: np.ndarray | None) -> tuple | None:
    return None if values is None else (values.dtype.str, values.shape, values.tobytes())


def _data(node: gs.Node, factors: bool) -> tuple[list[gs.Tensor], bool]:
    """(what a step moves, whether it is a multiplication by a number that is looked through)."""
    scale = scalar_factor(node) if factors else None
    if scale is not None:
        return [scale[0]], True
    return list(node.inputs) if node.op == "Concat" else [node.inputs[0]], False


def is_move(node: gs.Node) -> bool:
    """Whether ``node`` only moves values, by constants that say where to."""
    return node.op in MOVES and (node.op == "Concat" or all(constant(t) is not None for t in node.inputs[1:]))


def scalar_factor(node: gs.Node) -> tuple[gs.Tensor, float] | None:
    """(the operand, the number) of a multiplication or division by one constant number."""
    if node.op not in ("Mul", "Div"):
        return None
    for i, other in ((0, 1), (1, 0))[: 1 if node.op == "Div" else 2]:
        value = constant(node.inputs[other])
        if value is not None and value.size == 1 and constant(node.inputs[i]) is None:
            number = float(value.reshape(()))
            return node.inputs[i], 1 / number if node.op == "Div" else number
    return None


def _numbers(node: gs.Node, index: int, attribute: str) -> list[int] | None:
    """An operand that the standard moved from an attribute to an input."""
    if len(node.inputs) > index and constant(node.inputs[index]) is not None:
        return [int(n) for n in np.ravel(constant(node.inputs[index]))]
    return [int(n) for n in node.attrs[attribute]] if attribute in node.attrs else None


def _reshape(node: gs.Node, x: list[np.ndarray], output: int) -> np.ndarray:
    target = _numbers(node, 1, "shape")
    if not node.attrs.get("allowzero"):
        target = [x[0].shape[i] if n == 0 else n for i, n in enumerate(target)]
    return x[0].reshape(target)


def _slice(node: gs.Node, x: list[np.ndarray], output: int) -> np.ndarray:
    starts, ends = _numbers(node, 1, "starts"), _numbers(node, 2, "ends")
    axes = _numbers(node, 3, "axes") or range(len(starts))
    steps = _numbers(node, 4, "steps") or [1] * len(starts)
    cut: list[slice] = [slice(None)] * x[0].ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        past = end < -x[0].shape[axis] if step < 0 else False
        cut[axis] = slice(start, None if past else end, step)
    return x[0][tuple(cut)]


def _split(node: gs.Node, x: list[np.ndarray], output: int) -> np.ndarray:
    axis = node.attrs.get("axis", 0)
    sizes = _numbers(node, 1, "split")
    if sizes is None:
        each = -(-x[0].shape[axis] // len(node.outputs))
        sizes = [each] * len(node.outputs)
    return np.split(x[0], np.cumsum(sizes)[:-1], axis)[output]


def _squeeze(node: gs.Node, x: list[np.ndarray], output: int) -> np.ndarray:
    axes = _numbers(node, 1, "axes")
    return x[0].squeeze(tuple(axes) if axes is not None else None)


def _unsqueeze(node: gs.Node, x: list[np.ndarray], output: int) -> np.ndarray:
    return np.expand_dims(x[0], tuple(_numbers(node, 1, "axes")))


def _flatten(node: gs.Node, x: list[np.ndarray], output: int) -> np.ndarray:
    axis = node.attrs.get("axis", 1)
    axis += x[0].ndim if axis < 0 else 0
    return x[0].reshape(int(np.prod(x[0].shape[:axis])), -1)


MOVES = {
    "Reshape": _reshape,
    "Transpose": lambda node, x, output: x[0].transpose(node.attrs.get("perm")),
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Flatten": _flatten,
    "Gather": lambda node, x, output: np.take(x[0], constant(node.inputs[1]), node.attrs.get("axis", 0)),
    "Concat": lambda node, x, output: np.concatenate(x, node.attrs["axis"]),
}
"""How each operator moves an array of indices: ``(node, data inputs, number of the output) -> array``.

An Identity is no move: it marks where one region ends and the next begins, and goes when both have been judged."""
