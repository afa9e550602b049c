"""Reads a graph as streams of tokens: which tensors are the same rows in another order, and who wants which order.

Tensors that row-wise operators and row-preserving movement connect form one stream, whose rows have common names
(image, token). Each tensor of a stream has the :class:`exporter.orders.Order` in which the graph holds its rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs

from exporter.moves import Maps, is_move
from exporter.orders import Order, recognised
from exporter.rowwise import row_inputs
from exporter.surgery import Shapes, constant

BATCH = 2
BATCHES = (BATCH, 3)
"""Batches at which movement is read: rows of all images may look at one of them as if they were of an image each."""
FLOATS = frozenset({1, 10, 11, 16})


@dataclass
class Stream:
    """Rows with common names. ``moved``: the graph changes their order somewhere."""

    framed: list[Framed] = field(default_factory=list)
    joined: list[Value] = field(default_factory=list)
    """Values of this stream that are put together from rows of another one."""
    children: list[Value] = field(default_factory=list)
    """Values of other streams that are put together from this one's rows."""
    moved: bool = False

    def take(self, other: Stream, sigma: np.ndarray) -> None:
        """Make ``other`` part of this stream; its token ``i`` is called ``sigma[i]`` here."""
        back = np.argsort(sigma)
        for framed in other.framed:
            framed.order = framed.order.moved(sigma)
            framed.value.stream = self
        for value in other.joined:
            value.members = value.members[back]
        for value in other.children:
            value.members = sigma[value.members]
        for mine, theirs in ((self.framed, other.framed), (self.joined, other.joined), (self.children, other.children)):
            mine.extend(theirs)
        self.moved |= other.moved


@dataclass(eq=False)
class Value:
    """What a row-wise operator computes, in no particular order: ``width`` columns for each token.

    ``node`` is the operator and ``inputs`` its operands; or ``members`` (tokens, k) says which rows of ``inputs[0]``
    stand side by side in each row; or the graph has it in ``origin``, made by something else.
    """

    width: int
    stream: Stream
    node: gs.Node | None = None
    inputs: tuple[Value, ...] = ()
    members: np.ndarray | None = None
    origin: Framed | None = None


@dataclass(eq=False)
class Framed:
    """A tensor's value and the order of its rows in the graph."""

    tensor: gs.Tensor
    value: Value
    order: Order


class Streams:
    """The streams of ``graph``; ``moves`` counts the tensors in which it changes the order of rows."""

    def __init__(self, graph: gs.Graph, shapes: Shapes):
        self.one, self.two = shapes(1), shapes(BATCH)
        self.maps = Maps(shapes)
        self._framed: dict[int, Framed | None] = {}
        self._left: list[tuple[Value, gs.Node, str]] = []
        self._rows: dict[tuple, np.ndarray | None] = {}
        self.moves = 0
        for node in graph.nodes:
            if not is_move(node):
                self._read(node)
        for tensor in graph.outputs:
            self.frame(tensor)

    @property
    def refused(self) -> dict[str, str]:
        """Movement in streams that the graph reorders that is no matter of order, by node, and why."""
        return {node.name: why for value, node, why in self._left if value.stream.moved}

    def frame(self, tensor: gs.Tensor) -> Framed | None:
        """The frame of a tensor, also of one that movement makes; None where its rows are no stream's."""
        if id(tensor) not in self._framed:
            self._framed[id(tensor)] = None
            if tensor.inputs and is_move(tensor.inputs[0]):
                self._moved(tensor)
        return self._framed[id(tensor)]

    def shape(self, tensor: gs.Tensor) -> tuple[int, ...] | None:
        """The tensor's shape at a batch of two, or None where it is not known."""
        shape = self.two.shapes.get(tensor.name)
        return None if shape is None or min(shape, default=1) < 1 else shape

    def free_shape(self, tensor: gs.Tensor) -> list[int]:
        """The tensor's shape with -1 for the axis that grows with the batch."""
        first, second = self.one.shapes[tensor.name], self.two.shapes[tensor.name]
        return [a if a == b else -1 for a, b in zip(first, second, strict=True)]

    def _set(self, tensor: gs.Tensor, value: Value, order: Order) -> Framed:
        made = self._framed[id(tensor)] = Framed(tensor, value, order)
        value.stream.framed.append(made)
        return made

    def _read(self, node: gs.Node) -> None:
        shape = next((self.shape(t) for t in node.inputs if constant(t) is None), None)
        rows = row_inputs(node, len(shape), shape[-1]) if shape else None
        inputs = [self.frame(node.inputs[i]) for i in rows] if rows else []
        out = self.shape(node.outputs[0])
        apart = any(self.shape(f.tensor)[:-1] != out[:-1] for f in inputs if f) if out else True
        if inputs and all(inputs) and not apart and all(_meet(inputs[0], f) for f in inputs[1:]):
            value = Value(out[-1], inputs[0].value.stream, node, tuple(f.value for f in inputs))
            self._set(node.outputs[0], value, inputs[0].order)
            return
        padded = self.frame(node.inputs[0]) if node.op == "Pad" else None
        if padded is not None:
            self._left.append((padded.value, node, "its rows are padded"))
        for tensor in node.outputs:
            self._begin(tensor)

    def _begin(self, tensor: gs.Tensor) -> None:
        """A stream may begin with any float tensor that has rows for each image."""
        self._framed[id(tensor)] = None
        first, second = self.one.shapes.get(tensor.name), self.shape(tensor)
        if not second or not first or len(second) < 2 or self.two.types.get(tensor.name) not in FLOATS:
            return
        free = [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
        if len(free) != 1 or second[free[0]] != BATCH * first[free[0]] or free[0] == len(second) - 1:
            return
        order = Order(np.arange(int(np.prod(first[:-1]))), int(np.prod(first[: free[0]])))
        value = Value(second[-1], Stream())
        value.origin = self._set(tensor, value, order)

    def _moved(self, tensor: gs.Tensor) -> None:
        found = self.maps.of(tensor, BATCH)
        source = self._framed.get(id(found.source)) if found is not None else None
        if source is None or source.value.origin is not None:
            self._begin(tensor)  # what is moved right after it was made is left to its maker
            return
        names = [self._names(tensor, source, batch) for batch in BATCHES]
        if any(n is None for n in names):
            return
        if names[0].shape[1] > 1:
            self._joined(tensor, source, names)
            return
        order, again = (recognised(n[:, 0], batch) for n, batch in zip(names, BATCHES, strict=True))
        if order is not None and order == again:
            self._set(tensor, source.value, order)
            changed = order != source.order
            source.value.stream.moved |= changed
            self.moves += changed

    def _names(self, tensor: gs.Tensor, source: Framed, batch: int) -> np.ndarray | None:
        """(rows, k, 2): which rows of the source stand side by side in each row; None where they are not whole or
        some are dropped or repeated."""
        found = self.maps.of(tensor, batch)
        if found is None:
            return None
        kind = (found.kind, source.value.width)
        if kind not in self._rows:  # blocks are alike
            self._rows[kind] = _whole_rows(found.places, source.value.width)
        rows = self._rows[kind]
        if rows is None:
            return None
        if rows.size != batch * len(source.order.tokens):
            self._left.append((source.value, tensor.inputs[0], "rows are dropped or repeated"))
            return None
        return source.order.rows(batch)[rows]

    def _joined(self, tensor: gs.Tensor, source: Framed, names: list[np.ndarray]) -> None:
        """Rows put side by side, as patch merging does: the first image's rows name the new tokens."""
        count = len(names[0]) // BATCH
        members, order = names[0][:count, :, 1], Order(np.arange(count))
        if len(np.unique(members)) != members.size:  # each row once
            return
        for batch, found in zip(BATCHES, names, strict=True):
            images = np.broadcast_to(order.rows(batch)[:, :1], found.shape[:2])
            if not np.array_equal(found, np.stack([images, np.tile(members, (batch, 1))], -1)):  # in one image
                return
        value = Value(source.value.width * members.shape[1], Stream(moved=True), None, (source.value,), members)
        value.stream.joined.append(value)
        source.value.stream.children.append(value)
        source.value.stream.moved = True
        self._set(tensor, value, order)
        self.moves += 1


def _whole_rows(places: np.ndarray, width: int) -> np.ndarray | None:
    """(rows, k): the k rows of ``width`` columns that stand side by side in each row; None where they are not whole."""
    k, odd = divmod(places.shape[-1], width)
    if not k or odd:
        return None
    places = places.reshape(-1, k, width)
    rows = places[:, :, 0] // width
    return None if (places != rows[:, :, None] * width + np.arange(width)).any() else rows


def _meet(first: Framed, other: Framed) -> bool:
    """Whether two operands hold the same rows in the same order; another stream's rows get the first one's names."""
    if first.value.stream is other.value.stream:
        return first.order == other.order
    same = first.order.positions == other.order.positions and len(first.order.tokens) == len(other.order.tokens)
    if same:
        sigma = np.empty_like(first.order.tokens)
        sigma[other.order.tokens] = first.order.tokens
        first.value.stream.take(other.value.stream, sigma)
    return same
