"""Terms of an attention's scores that queries make, as more columns of queries and keys (MViTv2's positions).

A decomposed relative position (Li et al. 2022, arXiv:2112.01526, eq. 4) adds T_h[n, row of j] + T_w[n, column of j] to
the score of query n and key j, with T a product of the queries: it depends on the image, so it is no constant bias. But
T[n, c(j)] is the product of T's row n with the one-hot vector of c(j), so

    Q K^T + T_h[:, c_h] + T_w[:, c_w] = [Q, T_h, T_w] [K, onehot(c_h), onehot(c_w)]^T

with the same values in FP32 up to the order of the sum, and no sum over (heads, N, M) scores is left.

Before: MatMul(Q, Transpose(K)) -> Reshape (..., rows, columns) -> Add(T_h) -> Add(T_w) -> Reshape -> Softmax ->
MatMul(V). After: MatMul(Concat(Q, T_h, T_w), Transpose(Add(Pad(K), one-hot columns))) -> Softmax -> MatMul(Pad(V)) ->
Slice.

Learned from TensorRT-RTX 1.7: its fused attention (``_gemm_mha``) takes no term but a constant one, heads of at most
256 columns, and as many of V as of Q and K, so the columns are padded with zeros to a multiple of 8, and V's to the
same. Padding K *before* its Transpose costs nothing (one kernel with the LayerNorm that makes K), behind it a copy.
MViTv2-T with a block a stage, batch 1:8:32: 106 -> 102 kernels, 1061 -> 985 MB, 0 -> 4 fused. Without a fused attention
the longer rows only cost (FP32: 2105 -> 2336 MB): this is a step of the forms for 16 bits, not a canonical one.

Matches: one for each attention. Refused, with the reason recorded: a term that is not one row of numbers for each
query, in the order of the scores; a constant behind such a term, or a scale; scores that are an output; operands that
are shared among heads; a batch that is not the first axis; more than 256 columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from exporter.attention import BATCHES
from exporter.emit import Emitter, replace
from exporter.errors import Refusal
from exporter.moves import LIMIT
from exporter.surgery import Shapes, constant, each, tidy

MULTIPLE, WIDEST = 8, 256
"""What the columns of a head are padded to, and how many of them the fused kernel takes."""


@dataclass(frozen=True)
class Term:
    """``scores[n, j] += tensor[n, keys[j]]``, with ``width`` numbers for each query."""

    tensor: gs.Tensor
    width: int
    keys: np.ndarray


def apply(graph: gs.Graph, shapes: Shapes, refused: dict | None = None) -> int:
    """Rewrite in place; returns the number of attentions; ``refused`` is filled with reasons by node name."""
    tidy(graph)
    return each(graph, "Softmax", lambda softmax: _join(graph, softmax, shapes), refused)


def _join(graph: gs.Graph, softmax: gs.Node, shapes: Shapes) -> bool:
    product, terms = _followed(graph, softmax.inputs[0], shapes)
    if product is None or not terms:
        return False
    mix = softmax.outputs[0].outputs[0] if len(softmax.outputs[0].outputs) == 1 else None
    if mix is None or mix.op != "MatMul" or mix.inputs[0] is not softmax.outputs[0]:
        raise Refusal("its result is not multiplied with values")
    q, k, v = product.inputs[0], product.inputs[1], mix.inputs[1]
    _understood(product, softmax, (q, k, v), shapes)
    ranks = [len(shapes(1).shapes[t.name]) for t in (q, k, v)]
    features, values = shapes(1).shapes[q.name][-1], shapes(1).shapes[v.name][-1]
    width = -(-(features + sum(t.width for t in terms)) // MULTIPLE) * MULTIPLE
    if width > WIDEST or values > width or len(set(ranks)) != 1:
        raise Refusal(f"its joined heads would have {width} columns, more than a fused attention's {WIDEST}")
    e, batch = Emitter(graph, product), shapes(1).shapes[q.name][1:-1]
    made = e.op("Concat", q, *(e.reshape(t.tensor, -1, *batch, t.width) for t in terms), axis=-1)
    onehot = np.zeros((len(terms[0].keys), width), np.float32)
    first = features
    for term in terms:
        onehot[np.arange(len(onehot)), first + term.keys] = 1
        first += term.width
    product.inputs = [_wider(e, made, width - first, ranks[0]), _keys(e, k, onehot, width - features, ranks[0])]
    softmax.inputs = [product.outputs[0]]
    e, old, wide = e.beside(mix), mix.outputs[0], gs.Variable(f"{mix.outputs[0].name}/wide", mix.outputs[0].dtype)
    mix.inputs = [mix.inputs[0], _wider(e, v, width - values, ranks[0])]
    if width > values:
        mix.outputs = [wide]
        replace(graph, old, e.op("Slice", wide, np.array([0]), np.array([values]), np.array([-1])))
    return True


def _understood(product: gs.Node, softmax: gs.Node, operands: tuple, shapes: Shapes) -> None:
    """Refuse scores that are no (batch, ..., queries, keys) of one product with as many matrices on both sides."""
    inner = set()
    for batch in (1, *BATCHES):
        names = [t.name for t in (product.outputs[0], softmax.inputs[0], *operands)]
        found = [shapes(batch).shapes.get(name) for name in names]
        if None in found:
            raise Refusal("its shapes are not known")
        made, scores, q, k, v = map(tuple, found)
        if made != scores or not made[:-2] == q[:-2] == k[:-2] == v[:-2] or made[0] % batch:
            raise Refusal("its queries, keys and values are not the matrices of the scores")
        inner.add(made[1:-1])
    if len(inner) != 1:
        raise Refusal("the batch is not its first axis")


def _followed(graph: gs.Graph, tensor: gs.Tensor, shapes: Shapes) -> tuple[gs.Node | None, list[Term]]:
    """(the product of the scores, the terms added to it); (None, []) where something else makes the scores."""
    outputs = {id(t) for t in graph.outputs}
    keys, terms = (shapes(1).shapes.get(tensor.name) or (0,))[-1], []
    while keys and tensor.inputs and len(tensor.outputs) == 1 and id(tensor) not in outputs:
        node = tensor.inputs[0]
        if node.op == "MatMul":
            return node, terms
        if node.op == "Reshape":
            tensor = node.inputs[0]
        elif node.op == "Add" and (sides := _sides(node, shapes)):
            tensor, other = sides
            terms.append(_term(node, other, keys, shapes))
        elif terms:
            raise Refusal(f"{node.name} lies between its scores and a term that is added to them")
        else:
            break
    return None, []


def _sides(add: gs.Node, shapes: Shapes) -> tuple[gs.Tensor, gs.Tensor] | None:
    """(the scores, the term) of a sum; None where not one of two computed tensors is repeated, as a term is."""
    whole = shapes(1).shapes.get(add.outputs[0].name)
    full = [t for t in add.inputs if whole is not None and shapes(1).shapes.get(t.name) == whole]
    if len(full) != 1 or any(constant(t) is not None for t in add.inputs):
        return None
    return full[0], add.inputs[1] if add.inputs[0] is full[0] else add.inputs[0]


def _term(add: gs.Node, other: gs.Tensor, keys: int, shapes: Shapes) -> Term:
    found = []
    for batch in BATCHES:
        whole, own = (shapes(batch).shapes.get(t.name) for t in (add.outputs[0], other))
        if whole is None or own is None or np.prod(whole, dtype=np.int64) > LIMIT:
            raise Refusal(f"{add.name} adds what is not known, or too much to be looked at")
        places = np.broadcast_to(np.arange(np.prod(own)).reshape(own), whole).reshape(-1, keys)
        width = int(np.prod(own)) // len(places)
        rows = np.arange(len(places))[:, None] * width + places[0]
        if not width or places[0].max() >= width or not np.array_equal(places, rows):
            raise Refusal(f"{add.name} adds no row of numbers for each query")
        found.append((width, places[0]))
    (width, first), (other_width, second) = found
    if width != other_width or not np.array_equal(first, second):
        raise Refusal(f"{add.name} adds other numbers at another batch")
    return Term(other, width, first)


def _keys(e: Emitter, k: gs.Tensor, onehot: np.ndarray, more: int, rank: int) -> gs.Tensor:
    """K transposed, with the one-hot columns as more of its features."""
    made = k.inputs[0] if k.inputs else None
    swapped = [*range(rank - 2), rank - 1, rank - 2]
    if made is not None and made.op == "Transpose" and made.attrs.get("perm") == swapped:
        return e.transpose(e.op("Add", _wider(e, made.inputs[0], more, rank), onehot), *swapped)
    pads = np.array([0] * (2 * rank - 2) + [more, 0])
    return e.op("Add", e.op("Pad", k, pads), np.ascontiguousarray(onehot.T))


def _wider(e: Emitter, tensor: gs.Tensor, more: int, rank: int) -> gs.Tensor:
    """``tensor`` with so many zeros behind its last axis."""
    return e.op("Pad", tensor, np.array([0] * (2 * rank - 1) + [more])) if more else tensor
