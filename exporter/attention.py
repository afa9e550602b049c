"""Finds attention in a graph by what it computes: softmax(scale * Q K^T + bias) V, whatever moves the values about.

The operands are followed back through every Reshape, Transpose, Slice, Split and Gather to the tensor that they are
taken from, and the map says which rows are the tokens of which window and which columns are those of which head. The
steps between the scores and the softmax are run on zeros, which leaves scale and bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from exporter.moves import MOVES, Maps, is_move, scalar_factor
from exporter.surgery import Shapes, constant


@dataclass(frozen=True)
class Operand:
    """Q, K or V: token ``n`` of window ``w`` in head ``h`` is ``source[..., rows[w, n], columns[h, :]]``.

    ``source`` has the batch outermost; ``rows`` (windows, tokens) count its rows within an image.
    """

    source: gs.Tensor
    rows: np.ndarray
    columns: np.ndarray

    @property
    def in_order(self) -> bool:
        """Whether the source's rows are the windows' tokens, window by window."""
        return bool((self.rows.reshape(-1) == np.arange(self.rows.size)).all())


@dataclass(frozen=True)
class Attention:
    """One attention. ``bias`` is None or (windows or 1, heads, queries, keys); ``result`` is the tensor that its
    readers read, whose row ``i`` is token ``rows[i]``, counted window by window, and whose columns are the heads'."""

    softmax: gs.Node
    values: gs.Node
    """The MatMul that mixes the values; its module is the attention's."""
    q: Operand
    k: Operand
    v: Operand
    scale: float
    bias: np.ndarray | None
    result: gs.Tensor
    rows: np.ndarray
    width: tuple[int, ...]

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


class Refusal(Exception):
    """Why something that looks like attention is left as it is."""


def find(graph: gs.Graph, shapes: Shapes) -> tuple[list[Attention], dict[str, str]]:
    """(the attentions of ``graph`` in order, why others were refused by the name of their Softmax)."""
    maps = Maps(shapes)
    found, refused = [], {}
    for node in graph.nodes:
        if node.op == "Softmax":
            try:
                found.append(_recognise(graph, node, shapes, maps))
            except Refusal as why:
                refused[node.name] = str(why)
    return found, refused


BATCHES = (1, 2)


def _recognise(graph: gs.Graph, softmax: gs.Node, shapes: Shapes, maps: Maps) -> Attention:
    shape = shapes(2).shapes.get(softmax.inputs[0].name)
    if shape is None or softmax.attrs.get("axis", -1) not in (-1, len(shape) - 1):
        raise Refusal("the softmax is not over the last axis")
    readers = softmax.outputs[0].outputs
    if len(readers) != 1 or readers[0].op != "MatMul" or readers[0].inputs[0] is not softmax.outputs[0]:
        raise Refusal("its result is not multiplied with values")
    values = readers[0]
    chain, scores = _up_to_scores(softmax)
    scale, bias = _affine(chain, scores, shapes)
    one, two = [_operands(scores, values, maps, batch) for batch in BATCHES]
    operands, factor = [], scale
    for name, first, second in zip("qkv", one, two, strict=True):
        operands.append(_layout(name, first, second, shapes))
        factor *= first.factor if name != "v" else 1.0
        if name == "v" and first.factor != 1.0:
            raise Refusal("its values are scaled")
    (q, groups, tokens), (k, k_groups, keys), (v, v_groups, v_keys) = operands
    if not (np.array_equal(groups, k_groups) and np.array_equal(groups, v_groups)):
        raise Refusal("its keys and values are not split into the queries' windows and heads")
    if keys != v_keys:
        raise Refusal("keys and values are not of the same tokens")
    result, rows, width = _result(graph, values, groups, tokens, v.columns.shape, maps, shapes)
    return Attention(softmax, values, q, k, v, factor, _by_window(bias, groups, tokens, keys), result, rows, width)


def _up_to_scores(softmax: gs.Node) -> tuple[list[gs.Node], gs.Node]:
    """The nodes between the scores and the softmax, last first, and the MatMul that makes the scores."""
    chain, tensor = [], softmax.inputs[0]
    while True:
        if not tensor.inputs:
            raise Refusal("its scores are not a product of queries and keys")
        node = tensor.inputs[0]
        if node.op == "MatMul" and all(constant(t) is None for t in node.inputs):
            return chain, node
        data = [t for t in node.inputs if constant(t) is None]
        known = (
            node.op in ("Add", "Sub", "Mul", "Div")
            and len(data) == 1
            and data[0] is node.inputs[0 if node.op in ("Sub", "Div") else node.inputs.index(data[0])]
        )
        moved = node.op in ("Reshape", "Squeeze", "Unsqueeze") and is_move(node)
        if not (known or moved) or len(tensor.outputs) != 1:
            raise Refusal(f"{node.op} {node.name} on its scores depends on the input, or has other readers")
        chain.append(node)
        tensor = data[0]


def _affine(chain: list[gs.Node], scores: gs.Node, shapes: Shapes) -> tuple[float, np.ndarray | None]:
    """(scale, bias at a batch of two) of the steps on the scores: they are run on zeros, which leaves the bias."""
    scale, added = 1.0, False
    shape = shapes(2).shapes.get(scores.outputs[0].name)
    if shape is None or -1 in shape:
        raise Refusal("the shape of its scores is not known")
    x = np.zeros(shape, np.float32)
    for node in reversed(chain):
        if node.op in MOVES:
            before = x.shape[-2:]
            x = MOVES[node.op](node, [x], 0)
            if x.shape[-2:] != before:
                raise Refusal(f"{node.op} {node.name} mixes the tokens of its scores")
            continue
        factor = scalar_factor(node)
        if factor is not None:
            scale *= factor[1]
            x = x * np.float32(factor[1])
            continue
        if node.op in ("Mul", "Div"):
            raise Refusal(f"{node.op} {node.name} scales its scores by more than one number")
        other = next(constant(t) for t in node.inputs if constant(t) is not None)
        x = x + other if node.op == "Add" else x - other
        added = True
    return scale, x if added else None


def _operands(scores: gs.Node, values: gs.Node, maps: Maps, batch: int):
    """The maps of Q, K (as keys by features) and V at ``batch``."""
    found = [maps.of(t, batch, factors=True) for t in (scores.inputs[0], scores.inputs[1], values.inputs[1])]
    if any(m is None or m.places.ndim < 3 for m in found):
        raise Refusal("its queries, keys or values cannot be followed to one tensor each")
    key = found[1]
    found[1] = type(key)(key.source, key.places.swapaxes(-1, -2), key.factor)
    return found


def _layout(name: str, one, two, shapes: Shapes):
    """(operand, (windows, heads) number of each group, tokens) from its maps at one and at two images."""
    if one.source is not two.source:
        raise Refusal(f"its {name} comes from different tensors at different batches")
    width = shapes(1).shapes[one.source.name][-1]
    size = int(np.prod(shapes(1).shapes[one.source.name], dtype=np.int64))
    tokens, features = one.places.shape[-2:]
    first = one.places.reshape(-1, tokens, features)
    both = two.places.reshape(-1, tokens, features)
    if len(both) != 2 * len(first) or not np.array_equal(both, np.concatenate([first, first + size])):
        raise Refusal(f"the images of a batch are not apart in its {name}")
    rows, columns = first // width, first % width
    if (rows != rows[:, :, :1]).any() or (columns != columns[:, :1, :]).any():
        raise Refusal(f"its {name} is not made of rows and columns")
    window, window_rows = _numbered(rows[:, :, 0])
    head, head_columns = _numbered(columns[:, 0, :])
    if len(first) != len(window_rows) * len(head_columns):
        raise Refusal(f"its {name} is not every head of every window")
    return Operand(one.source, window_rows, head_columns), np.stack([window, head], 1), tokens


def _numbered(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the number of each vector, the different vectors), numbered as they first appear."""
    _, first, inverse = np.unique(vectors, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return np.argsort(order)[inverse.reshape(-1)], vectors[np.sort(first)]


def _by_window(bias: np.ndarray | None, groups: np.ndarray, tokens: int, keys: int) -> np.ndarray | None:
    """The bias as (windows or 1, heads, queries, keys)."""
    if bias is None:
        return None
    windows, heads = groups.max(0) + 1
    if bias.shape[-2:] != (tokens, keys) or bias.size != 2 * len(groups) * tokens * keys:
        raise Refusal("its bias is not one number a window, head, query and key")
    first, second = bias.reshape(2, len(groups), tokens, keys)
    if not np.array_equal(first, second):
        raise Refusal("its bias is not the same for every image")
    made = np.empty((windows, heads, tokens, keys), np.float32)
    made[groups[:, 0], groups[:, 1]] = first
    return made[:1] if (made == made[:1]).all() else made


def _result(graph, values: gs.Node, groups: np.ndarray, tokens: int, head: tuple[int, int], maps: Maps, shapes: Shapes):
    """(the tensor that its readers read, its rows' tokens, its shape without the batch)."""
    heads, features = head
    tensor, seen = values.outputs[0], None
    while len(tensor.outputs) == 1 and is_move(tensor.outputs[0]) and not any(tensor is t for t in graph.outputs):
        tensor = tensor.outputs[0].outputs[0]
        seen = maps.of(tensor, 1), maps.of(tensor, 2)
        if None in seen or seen[0].source is not values.outputs[0]:
            break
        shape = seen[0].places.shape
        if shape[-1] != heads * features:
            continue
        size = len(groups) * tokens * features
        first = seen[0].places.reshape(-1, heads, features)
        if not np.array_equal(seen[1].places.reshape(2, -1), np.stack([first.reshape(-1), first.reshape(-1) + size])):
            continue
        window, at = groups[first // (tokens * features), 0], first // features % tokens
        here = window * tokens + at
        right = (groups[first // (tokens * features), 1] == np.arange(heads)[:, None]) & (
            first % features == np.arange(features)
        )
        if (here == here[:, :1, :1]).all() and right.all() and len(here) == len(np.unique(here[:, 0, 0])):
            return tensor, here[:, 0, 0], shapes(2).shapes[tensor.name]
    raise Refusal("its heads are not put side by side again")
