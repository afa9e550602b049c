"""Finds attention in a graph by what it computes: softmax(scale * Q K^T + bias) V, whatever moves the values about.

The operands are followed back through every Reshape, Transpose, Slice, Split and Gather to the tensor that they are
taken from, and the map says which rows are the tokens of which window and which columns are those of which head. The
steps between the scores and the softmax are run on zeros, which leaves scale and bias (:mod:`exporter.scores`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs

from exporter import heads, scores
from exporter.datafree import DataFree
from exporter.errors import Refusal
from exporter.moves import Map, Maps, is_move
from exporter.orders import Order
from exporter.surgery import Shapes, constant

BATCH = 2
BATCHES = (BATCH, 3)
"""Batches at which maps are read: at one alone, an axis of another meaning may be as long as the batch."""


@dataclass(frozen=True)
class Operand:
    """Q, K or V: token ``n`` of window ``w`` in head ``h`` is ``source[rows[w, n], columns[h, :]]``.

    ``rows`` (windows, tokens) count an image's rows of ``source``, whose rows as a whole are in ``order``.
    ``normalised`` is None, or the smallest length that a head's vector is divided by (cosine attention).
    """

    source: gs.Tensor
    rows: np.ndarray
    columns: np.ndarray
    order: Order
    normalised: float | None = None

    @property
    def in_order(self) -> bool:
        """Whether the source's rows are the windows' tokens, window by window, image by image."""
        return self.order.positions == 1 and np.array_equal(self.rows.reshape(-1), np.arange(len(self.order.tokens)))


@dataclass(frozen=True)
class Attention:
    """One attention. ``scale`` has a number for each head; ``bias`` is None or (windows or 1, heads or 1, queries,
    keys).

    ``result`` is the tensor that its readers read: its rows are the windows' tokens in ``order``, its columns are
    those of all heads; ``shape`` is its shape with -1 for the axis that grows with the batch.
    """

    softmax: gs.Node
    product: gs.Node
    """The MatMul of the scores."""
    values: gs.Node
    """The MatMul that mixes the values; its module is the attention's."""
    q: Operand
    k: Operand
    v: Operand
    scale: np.ndarray
    bias: np.ndarray | None
    result: gs.Tensor
    order: Order
    shape: tuple[int, ...]
    balanced: bool = False
    """Whether the scale is shared out so that each column of queries is as wide as the keys' it is multiplied with."""

    @property
    def windows(self) -> int:
        return len(self.q.rows)

    @property
    def heads(self) -> int:
        return len(self.q.columns)

    @property
    def tokens(self) -> int:
        """Queries in a window."""
        return self.q.rows.shape[1]


def find(graph: gs.Graph, shapes: Shapes) -> tuple[list[Attention], dict[str, str]]:
    """(the attentions of ``graph`` in order, why others were refused, by the name of their Softmax)."""
    finder = _Finder(graph, shapes)
    found, refused = [], {}
    for node in graph.nodes:
        if node.op == "Softmax":
            try:
                found.append(finder.attention(node))
            except Refusal as why:
                refused[node.name] = str(why)
    return found, refused


class _Finder:
    def __init__(self, graph: gs.Graph, shapes: Shapes):
        self.graph = graph
        self.shapes = shapes
        self.maps = Maps(shapes)
        self.free = DataFree(graph, shapes)
        self.read: dict[tuple, tuple] = {}
        self.sides: dict[tuple, Order | None] = {}

    def attention(self, softmax: gs.Node) -> Attention:
        shape = self.shapes(BATCH).shapes.get(softmax.inputs[0].name)
        if shape is None or softmax.attrs.get("axis", -1) not in (-1, len(shape) - 1):
            raise Refusal("the softmax is not over the last axis")
        if self._is_output(softmax.outputs[0]):
            raise Refusal("its weights are an output")
        values = _reader(softmax.outputs[0])
        steps = scores.steps(softmax.inputs[0], self.free, self.shapes)
        operands = [self._operand(t, swap) for t, swap in _ends(steps.product, values)]
        (q, groups, factor), (k, k_groups, k_factor), (v, v_groups, v_factor) = operands
        if not (np.array_equal(groups, k_groups) and np.array_equal(groups, v_groups)):
            raise Refusal("its keys and values are not split into the queries' windows and heads")
        if k.rows.shape != v.rows.shape:
            raise Refusal("it has not as many keys as values")
        if v_factor != 1.0 or v.normalised is not None:
            raise Refusal("its values are scaled")
        scale = heads.by_head(steps.scale * factor * k_factor, groups)
        bias = heads.by_window(steps.bias, groups, q.rows.shape[1], k.rows.shape[1])
        result, order = self._result(values, groups, q.rows, v.columns)
        first, second = (self.shapes(b).shapes[result.name] for b in (1, BATCH))
        shape = tuple(a if a == b else -1 for a, b in zip(first, second, strict=True))
        return Attention(softmax, steps.product, values, q, k, v, scale, bias, result, order, shape)

    def _operand(self, tensor: gs.Tensor, swap: bool) -> tuple[Operand, np.ndarray, float]:
        """(operand, (window, head) of each group of its batch axes, the number it is multiplied by)."""
        maps = [self._map(tensor, batch, swap) for batch in BATCHES]
        factor = maps[0].factor
        inner, eps = _normalised(maps[0].source)
        if inner is not None and all(map(_whole_vectors, maps)):
            maps = [_composed(m, self.maps.of(inner, b)) for m, b in zip(maps, BATCHES, strict=True)]
        else:
            eps = None
        source = maps[0].source
        order, width = self._rows(source)
        kind = (*(m.kind for m in maps), len(order.tokens), order.positions, width)
        if kind not in self.read:  # blocks are alike
            self.read[kind] = _read(maps, order, width, source.name)
        rows, columns, groups = self.read[kind]
        return Operand(source, rows, columns, order, eps), groups, factor

    def _rows(self, source: gs.Tensor) -> tuple[Order, int]:
        """(the order of a source's rows, its columns)."""
        first, second = (self.shapes(b).shapes[source.name] for b in (1, 2))
        free = [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
        if len(free) != 1 or free[0] == len(first) - 1:
            raise Refusal(f"{source.name} has no batch axis")
        count, positions = int(np.prod(first[:-1])), int(np.prod(first[: free[0]], dtype=np.int64))
        return Order(np.arange(count), positions), first[-1]

    def _map(self, tensor: gs.Tensor, batch: int, swap: bool) -> Map:
        found = self.maps.of(tensor, batch, factors=True)
        if found is None or found.places.ndim < 3:
            raise Refusal(f"{tensor.name} cannot be followed to one tensor")
        return replace(found, places=found.places.swapaxes(-1, -2), kind=("swapped", found.kind)) if swap else found

    def _result(self, values: gs.Node, groups, rows: np.ndarray, columns: np.ndarray) -> tuple[gs.Tensor, Order]:
        """The tensor in which the heads stand side by side again, and the order of its rows."""
        tensor = values.outputs[0]
        while len(tensor.outputs) == 1 and is_move(tensor.outputs[0]) and not self._is_output(tensor):
            tensor = tensor.outputs[0].outputs[0]
            maps = [self.maps.of(tensor, batch) for batch in BATCHES]
            if any(m is None or m.source is not values.outputs[0] for m in maps):
                break
            if maps[0].places.shape[-1] == columns.size:
                orders = [
                    self._side_by_side(m, groups, rows.shape[1], columns.shape, batch)
                    for m, batch in zip(maps, BATCHES, strict=True)
                ]
                if orders[0] is not None and orders[0] == orders[1]:
                    return tensor, orders[0]
        raise Refusal("its heads are not put side by side again")

    def _side_by_side(self, found: Map, groups: np.ndarray, tokens: int, shape, batch: int) -> Order | None:
        kind = (found.kind, groups.tobytes(), tokens, shape, batch)
        if kind not in self.sides:
            self.sides[kind] = heads.joined(found.places, groups, tokens, shape, batch)
        return self.sides[kind]

    def _is_output(self, tensor: gs.Tensor) -> bool:
        return any(tensor is t for t in self.graph.outputs)


def _read(maps: list[Map], order: Order, width: int, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(tokens of each window, columns of each head, (window, head) of each group) of an operand, at any batch."""
    rows, columns = heads.taken(maps[0].places, order, width, BATCHES[0], name)
    again = heads.taken(maps[1].places, order, width, BATCHES[1], name)
    if not (np.array_equal(rows, again[0]) and np.array_equal(columns, again[1])):
        raise Refusal(f"{name} is taken apart in another way at another batch")
    window, rows = heads.numbered(rows)
    head, columns = heads.numbered(columns)
    groups = np.stack([window, head], 1)
    if len(groups) != len(rows) * len(columns) or len(np.unique(groups, axis=0)) != len(groups):
        raise Refusal(f"{name} does not give every head of every window")
    return rows, columns, groups


def _reader(weights: gs.Tensor) -> gs.Node:
    """The MatMul that mixes the values by the softmax's result."""
    if len(weights.outputs) != 1 or weights.outputs[0].op != "MatMul" or weights.outputs[0].inputs[0] is not weights:
        raise Refusal("its result is not multiplied with values")
    return weights.outputs[0]


def _ends(product: gs.Node, values: gs.Node):
    """Q, K and V as they enter the products, and whether their last two axes are exchanged."""
    return (product.inputs[0], False), (product.inputs[1], True), (values.inputs[1], False)


def _normalised(tensor: gs.Tensor) -> tuple[gs.Tensor | None, float | None]:
    """(x, eps) of ``tensor`` = x / max(length of x along its last axis, eps), else (None, None)."""
    node = tensor.inputs[0] if tensor.inputs else None
    if node is None or node.op != "Div" or not node.inputs[1].inputs:
        return None, None
    x, clip = node.inputs[0], node.inputs[1].inputs[0]
    bounds = [t for t in clip.inputs[1:] if t.name] if clip.op in ("Clip", "Max") else []
    low = constant(clip.inputs[1]) if len(bounds) == 1 else None
    length = clip.inputs[0].inputs[0] if low is not None and low.size == 1 and clip.inputs[0].inputs else None
    if length is None or length.op != "ReduceL2" or length.inputs[0] is not x or not length.attrs.get("keepdims", 1):
        return None, None
    axes = constant(length.inputs[1]) if len(length.inputs) > 1 else length.attrs.get("axes")
    return (x, float(low.reshape(()))) if axes is not None and [int(a) for a in axes] == [-1] else (None, None)


def _whole_vectors(found: Map) -> bool:
    """Whether each vector of an operand is all of its source's last axis, over which that is normalised."""
    width = found.source_shape[-1]
    row, column = np.divmod(found.places, width)
    return bool(
        found.places.shape[-1] == width
        and (row == row[..., :1]).all()
        and (np.sort(column, -1) == np.arange(width)).all()
    )


def _composed(outer: Map, inner: Map | None) -> Map:
    if inner is None:
        raise Refusal(f"{outer.source.name} cannot be followed to one tensor")
    places = inner.places.reshape(-1)[outer.places]
    return replace(inner, places=places, kind=("composed", outer.kind, inner.kind), factor=outer.factor)
