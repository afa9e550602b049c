"""Tokens stay in the order in which the next attention wants them.

Before: LayerNorm, roll, window partition, attention, window reverse, roll back, residual, MLP; then the same again.
After: one permutation where the order changes from one block to the next, none where it does not; LayerNorm, MLP and
residuals run on whatever order is there, as matrices of one row a token. Patch merging takes its rows from any order,
an average over all tokens too.

How: every tensor of a stream of tokens is a value and an order (:mod:`exporter.streams`); movement of rows only says
that the same value is wanted in another order. Each operator then runs in the order that costs the fewest converted
elements, counting what the operators behind it want; a conversion is one Gather (:func:`exporter.orders.convert`).

Matches: tensors in which the graph changes the order of rows. Refused: rows that are padded, dropped or repeated (an
image that is no multiple of the window), and movement inside a row, which belongs to attention.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx_graphsurgeon as gs

from exporter.emit import Emitter, replace
from exporter.moves import is_move
from exporter.orders import Order, convert
from exporter.streams import Framed, Streams, Value
from exporter.surgery import Shapes, absent, constant, join_reshapes, tidy


def apply(graph: gs.Graph, shapes: Shapes, refused: dict[str, str] | None = None) -> int:
    """Rewrite in place; returns the number of movements of rows that became a matter of order.

    ``refused`` is filled with what was left as it is, by node, and why.
    """
    tidy(graph)
    streams = Streams(graph, shapes)
    writer = _Writer(graph, streams)
    if writer.touched():
        writer.write()
        tidy(graph)
        join_reshapes(graph)
        tidy(graph)
    if refused is not None:
        refused.update(streams.refused)
    return streams.moves


class _Writer:
    """Writes the operators of the streams again, in the orders that it chooses."""

    def __init__(self, graph: gs.Graph, streams: Streams):
        self.graph = graph
        self.streams = streams
        self.nodes = list(graph.nodes)
        self.ready: dict[Value, dict[Order, gs.Tensor]] = defaultdict(dict)
        self.uses: list[tuple[gs.Node, int, Framed]] = []
        self.wanted: dict[Value, Order | None] = {}

    def touched(self) -> bool:
        """Collect who reads the streams from outside; whether there is anything to do."""
        seen: set[int] = set()
        for node in self.nodes:
            if not is_move(node):
                inside = self._value(node) is not None
                for index, tensor in enumerate(node.inputs):
                    self._use(node, index, tensor, seen, inside)
        for tensor in self.graph.outputs:
            if tensor.inputs and is_move(tensor.inputs[0]) and self._served(tensor) is None:
                self._use_moved(tensor, seen)
        self.uses = [use for use in self.uses if use[2].value.stream.moved]  # known when all have been read
        return self.streams.moves > 0

    def _value(self, node: gs.Node) -> Value | None:
        """The value that a node computes in a stream."""
        framed = self.streams.frame(node.outputs[0]) if len(node.outputs) == 1 and not is_move(node) else None
        return framed.value if framed and framed.value.node is node else None

    def _operator(self, node: gs.Node) -> Value | None:
        """The value that a node computes in a stream that is written again."""
        value = self._value(node)
        return value if value is not None and value.stream.moved else None

    def _use(self, node: gs.Node, index: int, tensor: gs.Tensor, seen: set[int], inside: bool = False) -> None:
        """``inside`` says that the node is part of the stream: it reads of others only what they have moved."""
        framed = self._served(tensor)
        if framed is not None:
            if not inside:
                self.uses.append((node, index, framed))
        elif tensor.inputs and is_move(tensor.inputs[0]):
            self._use_moved(tensor, seen)

    def _served(self, tensor: gs.Tensor) -> Framed | None:
        """The frame of a tensor that a reader gets from its stream."""
        framed = self.streams.frame(tensor) if tensor.inputs else None
        return framed if framed is not None and framed.value.origin is None else None

    def _use_moved(self, tensor: gs.Tensor, seen: set[int]) -> None:
        """Movement that stays reads its own inputs."""
        mover = tensor.inputs[0]
        if id(mover) not in seen:
            seen.add(id(mover))
            for index, source in enumerate(mover.inputs):
                if not isinstance(source, gs.Constant):
                    self._use(mover, index, source, seen)

    def write(self) -> None:
        self._want()
        for node in self.nodes:
            value = self._operator(node)
            if value is not None:
                self._write(value)
        for node, index, framed in self.uses:
            self._serve(node, index, framed)
        for tensor in list(self.graph.outputs):
            framed = self._served(tensor)
            if framed is not None and framed.value.stream.moved:
                e = Emitter(self.graph, tensor.inputs[0])
                replace(self.graph, tensor, e.reshape(self.get(e, framed.value, framed.order), *self._shape(framed)))

    def _want(self) -> None:
        """The order that all readers of a value want, where they agree."""
        asked: dict[Value, list[Order]] = defaultdict(list)
        for framed in filter(None, map(self._served, self.graph.outputs)):
            asked[framed.value].append(framed.order)
        for node, _, framed in self.uses:
            if _averages(node, framed, self.streams) is None:
                asked[framed.value].append(framed.order)
        for node in reversed(self.nodes):
            value = self._operator(node)
            if value is not None:
                self._pass_on(value, asked)

    def _pass_on(self, value: Value, asked: dict[Value, list[Order]]) -> None:
        orders = asked[value]
        self.wanted[value] = orders[0] if orders and all(o == orders[0] for o in orders) else None
        if self.wanted[value] is not None and len(value.inputs) == 1:
            source = value.inputs[0]
            asked[source].append(self.wanted[value])
            if source.members is not None:
                asked[source.inputs[0]].append(self.wanted[value].expanded(source.members))

    def _write(self, value: Value) -> None:
        e = Emitter(self.graph, value.node)
        order = self._choose(value)
        matrices = [self.get(e, source, order) for source in value.inputs]
        if value.node.op == "Identity":
            self.ready[value][order] = matrices[0]
            return
        rows = iter(matrices)
        inputs = [
            t if absent(t) else next(rows) if constant(t) is None else _as_row(value.node, t) for t in value.node.inputs
        ]
        attrs = dict(value.node.attrs)
        if value.node.op == "LayerNormalization":
            attrs["axis"] = -1
        elif "axes" in attrs:
            attrs["axes"] = [-1]
        old = value.node.outputs[0]
        made = gs.Variable(f"{old.name}/rows", dtype=old.dtype)
        self.graph.nodes.append(gs.Node(value.node.op, value.node.name, attrs, inputs, [made]))
        self.ready[value][order] = made

    def _choose(self, value: Value) -> Order:
        wanted = self.wanted[value]
        candidates = [wanted] if wanted is not None else []
        candidates += [o for source in value.inputs for o in self._orders(source)]

        def cost(order: Order) -> int:
            size = sum(s.width for s in set(value.inputs) if not self._has(s, order))
            return size + (value.width if wanted is not None and order != wanted else 0)

        return min(candidates, key=cost)

    def _orders(self, value: Value) -> list[Order]:
        if value.origin is not None and not self.ready[value]:
            return [value.origin.order]
        if value.members is not None and not self.ready[value]:
            return [Order(np.arange(len(value.members)))]
        return list(self.ready[value])

    def _has(self, value: Value, order: Order) -> bool:
        if order in self.ready[value] or (value.origin is not None and value.origin.order == order):
            return True
        return value.members is not None and self._has(value.inputs[0], order.expanded(value.members))

    def get(self, e: Emitter, value: Value, order: Order) -> gs.Tensor:
        """The matrix of ``value`` in ``order``, converted where it must be, once."""
        ready = self.ready[value]
        if order in ready:
            return ready[order]
        if value.members is not None:
            parent = self.get(e, value.inputs[0], order.expanded(value.members))
            ready[order] = e.reshape(parent, -1, value.width)
            return ready[order]
        if not ready:
            origin = value.origin
            ready[origin.order] = e.reshape(origin.tensor, -1, value.width)
            return self.get(e, value, order)
        here = next(iter(ready))
        ready[order] = convert(e, ready[here], here, order, value.width)
        return ready[order]

    def _serve(self, node: gs.Node, index: int, framed: Framed) -> None:
        """Give a reader outside of the streams what it read before."""
        e = Emitter(self.graph, node)
        axes = _averages(node, framed, self.streams)
        if axes is not None:
            self._average(e, node, framed.value)
            return
        matrix = self.get(e, framed.value, framed.order)
        node.inputs[index] = e.reshape(matrix, *self._shape(framed))

    def _shape(self, framed: Framed) -> list[int]:
        return self.streams.free_shape(framed.tensor)

    def _average(self, e: Emitter, node: gs.Node, value: Value) -> None:
        """A mean over all tokens, in whatever order they are."""
        order = self._orders(value)[0]
        count, positions = len(order.tokens), order.positions
        shape, axes = (
            ((-1, count, value.width), [1])
            if positions == 1
            else ((positions, -1, count // positions, value.width), [0, 2])
        )
        tensor = e.reshape(self.get(e, value, order), *shape)
        out = node.outputs[0]
        if len(node.inputs) > 1:
            made = e.op(node.op, tensor, np.array(axes, np.int64), keepdims=0)
        else:
            made = e.op(node.op, tensor, axes=axes, keepdims=0)
        replace(self.graph, out, e.reshape(made, *self.streams.free_shape(out)))


def _averages(node: gs.Node, framed: Framed, streams: Streams) -> list[int] | None:
    """The axes of a reduction over all tokens of each image, or None."""
    if node.op not in ("ReduceMean", "ReduceSum", "ReduceMax") or framed.order.positions != 1:
        return None
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else node.attrs.get("axes")
    shape = streams.shape(framed.tensor)
    if axes is None or shape[0] != 2:
        return None
    axes = sorted(int(a) % len(shape) for a in axes)
    return axes if axes == list(range(1, len(shape) - 1)) else None


def _as_row(node: gs.Node, tensor: gs.Constant) -> gs.Constant:
    """A constant operand for rows of rank two: one number, or one for each column."""
    values = tensor.values
    if node.op in ("MatMul", "Gemm") or values.ndim <= 1:
        if node.op.startswith("Reduce"):
            return gs.Constant(f"{node.name}/axes", np.array([-1], np.int64))
        return tensor
    return gs.Constant(f"{tensor.name}/row", values.reshape(() if values.size == 1 else -1))
