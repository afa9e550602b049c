"""The forms that an attention can be written in: ``form(emitter, attention) -> the tensor of its result``.

All compute the same. What differs is which copies a compiler needs between the projections and its fused kernel;
``make tune`` builds them and reads the kernels. Measured with TensorRT-RTX 1.7 at FP16 on four blocks of Swin-T:

* The fused kernel (``_gemm_mha``) reads Q, K and V through one batch stride and one row stride. With tokens window by
  window, (window, head) is no single stride, so the heads are copied apart first. With tokens *position by position*
  (all windows' first tokens, then all second ones) it is one, and no copy is needed: ``positions*``.
* It reads the output of a plain matrix product in place, also a third of it along its outermost axis; it does not so
  read a part of what a generated kernel wrote, and adding a bias makes it one. So what has no bias is one product:
  K and V, whose biases can be moved away exactly (:mod:`exporter.rewrites.fold_attention_biases`), and Q where a
  LayerNormalization in front can carry its bias (:mod:`exporter.rewrites.absorb_query_biases`), else Q is another.
* Products of the same rows it puts together itself, whatever is behind them: where Q has a bias and K has not, and V is
  of other rows (DETR's), it copies both parts and then adds. One product with one bias is one copy for both: 90 -> 85
  kernels of the DETR for digits, 210 -> 198 of DETR-R50.
* With a free batch a product that the graph slices is copied after all. Three products that the compiler itself puts
  together are not (``positions_apart``): it lists two numbers for each of two parts, which the host works out. Where
  a bias is left, one product with it and one copy is best (``positions_packed``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from exporter.attention import Attention
from exporter.emit import Emitter, require_opset
from exporter.errors import Refusal
from exporter.projections import Projections, as_result, rest_of_scale, unit, with_bias


def windows(e: Emitter, a: Attention) -> gs.Tensor:
    """Five axes (B, W, H, N, D), three projections; takes any attention."""
    p = Projections(e, a)
    q, k, v = (_window_heads(e, p, i) for i in range(3))
    return _attend_in_windows(e, a, q, e.transpose(k, 0, 1, 2, 4, 3), v)


def windows_packed(e: Emitter, a: Attention) -> gs.Tensor:
    """Five axes, one projection of 3 H D columns, split along the heads."""
    q, k, v = _packed_heads(e, a)
    return _attend_in_windows(e, a, q, e.transpose(k, 0, 1, 2, 4, 3), v)


def windows_operator(e: Emitter, a: Attention) -> gs.Tensor:
    """ONNX's Attention (opset 23) on (B, W H, N, D), windows counted as heads; one projection of all three."""
    require_opset(e.graph, 23)
    q, k, v = _packed_heads(e, a)
    rest = rest_of_scale(a)
    q = q if rest is None else e.op("Mul", q, rest)
    folded = [e.reshape(t, -1, a.windows * a.heads, a.tokens, a.q.columns.shape[1]) for t in (q, k, v)]
    if a.bias is not None:
        bias = np.broadcast_to(a.bias, (a.windows, a.heads, *a.bias.shape[2:]))
        folded.append(bias.reshape(1, a.windows * a.heads, *a.bias.shape[2:]))
    mixed = e.op("Attention", *folded, scale=1.0)
    return _from_windows(e, a, e.reshape(mixed, -1, a.windows, a.heads, a.tokens, a.q.columns.shape[1]))


def positions_packed(e: Emitter, a: Attention) -> gs.Tensor:
    """Rows position by position, one projection whose columns are head by head (Q, K, V of the first, ...)."""
    heads = _head_by_head(e, _shared(e, a), [0, 1, 2])
    return _attend_by_position(e, a, heads[0], e.transpose(heads[1], 0, 2, 1), heads[2])


def positions_planes(e: Emitter, a: Attention) -> gs.Tensor:
    """Rows position by position; what has no bias and the same input is one product with a plane for each.

    One without a bias beside one with it is one product whose columns are head by head.
    """
    return _by_position(e, a, together=True)


def positions_apart(e: Emitter, a: Attention) -> gs.Tensor:
    """Rows position by position, a product for each of Q, K and V, which the compiler puts together.

    It does so where none has a bias; one that has takes ``positions_packed`` where that can be.
    """
    p = Projections(e, a)
    if p.shared() and any(bias is not None for bias in p.biases):
        return positions_packed(e, a)
    return _by_position(e, a, together=False)


def _by_position(e: Emitter, a: Attention, together: bool) -> gs.Tensor:
    p = Projections(e, a)
    heads: dict[int, gs.Tensor] = {}
    alike: dict[tuple, list[int]] = {}
    for i in range(3):
        alike.setdefault((id(p.input(i, True)), p.weights[i].shape), []).append(i)
    bare: list[list[int]] = []
    for group in alike.values():
        plain = [i for i in group if p.biases[i] is None]
        if len(plain) == 1 and len(group) == 2:
            heads |= _head_by_head(e, p, group)
            continue
        bare += [plain] if together else [[i] for i in plain]
        for i in set(group) - set(plain):
            product = p.e.op("MatMul", p.e.reshape(p.input(i, True), 1, -1, len(p.weights[i])), p.weights[i][None])
            heads[i] = _position_heads(e, p, i, p.e.op("Add", product, p.biases[i]))
    for group in filter(None, bare):
        x = p.e.reshape(p.input(group[0], True), 1, -1, len(p.weights[group[0]]))
        planes = p.e.op("MatMul", x, np.stack([p.weights[i] for i in group]))
        parts = [planes]
        if len(group) > 1:
            parts = e.op("Split", planes, np.array([1] * len(group)), outputs=len(group), axis=0)
        heads |= {i: _position_heads(e, p, i, part) for i, part in zip(group, parts, strict=True)}
    return _attend_by_position(e, a, heads[0], e.transpose(heads[1], 0, 2, 1), heads[2])


def _head_by_head(e: Emitter, p: Projections, group: list[int]) -> dict[int, gs.Tensor]:
    """(B W H, N, D) of projections of the same rows, out of one product: all of the first head, then of the next."""
    count, (heads, features) = len(group), p.operands[group[0]].columns.shape
    weight, bias = p.packed(group)
    order = np.arange(count * heads * features).reshape(count, heads, features).transpose(1, 0, 2).reshape(-1)
    made = p.e.op("MatMul", p.input(group[0], True), weight[:, order])
    made = with_bias(p.e, made, None if bias is None else bias[order])
    tokens = p.operands[group[0]].rows.shape[1]
    made = e.transpose(e.reshape(made, tokens, -1, count * features), 1, 0, 2)
    parts = e.op("Split", made, np.array([features] * count), outputs=count, axis=2)
    return {i: unit(e, part, p.operands[i]) for i, part in zip(group, parts, strict=True)}


def _shared(e: Emitter, a: Attention) -> Projections:
    p = Projections(e, a)
    if not p.shared():
        raise Refusal("its queries, keys and values are not projections of the same tokens")
    return p


def _packed_heads(e: Emitter, a: Attention) -> list[gs.Tensor]:
    """(B, W, H, N, D) of Q, K and V out of one projection."""
    p = _shared(e, a)
    weight, bias = p.packed([0, 1, 2])
    made = with_bias(p.e, p.e.op("MatMul", p.input(0, False), weight), bias)
    heads, features = a.q.columns.shape
    made = e.transpose(e.reshape(made, -1, a.windows, a.tokens, 3 * heads, features), 0, 1, 3, 2, 4)
    parts = e.op("Split", made, np.array([heads] * 3), outputs=3, axis=2)
    return [unit(e, part, operand) for part, operand in zip(parts, p.operands, strict=True)]


def _window_heads(e: Emitter, p: Projections, i: int) -> gs.Tensor:
    """(B, W, H, N, D) of one projection."""
    operand = p.operands[i]
    made = with_bias(p.e, p.e.op("MatMul", p.input(i, False), p.weights[i]), p.biases[i])
    made = e.reshape(made, -1, *operand.rows.shape, *operand.columns.shape)
    return unit(e, e.transpose(made, 0, 1, 3, 2, 4), operand)


def _position_heads(e: Emitter, p: Projections, i: int, made: gs.Tensor) -> gs.Tensor:
    """(B W H, N, D) of one projection's rows position by position."""
    operand = p.operands[i]
    made = e.reshape(made, operand.rows.shape[1], -1, operand.columns.shape[1])
    return unit(e, e.transpose(made, 1, 0, 2), operand)


def _attend_in_windows(e: Emitter, a: Attention, q, k, v) -> gs.Tensor:
    """(B, W, H, N, D), (B, W, H, D, M), (B, W, H, M, D) -> the result."""
    return _from_windows(e, a, e.op("MatMul", e.op("Softmax", _biased(e, a, e.op("MatMul", q, k)), axis=-1), v))


def _from_windows(e: Emitter, a: Attention, mixed: gs.Tensor) -> gs.Tensor:
    """(B, W, H, N, D) -> the result."""
    made = e.reshape(e.transpose(mixed, 0, 1, 3, 2, 4), -1, a.q.rows.size, a.v.columns.size)
    return as_result(e, made, a)


def _attend_by_position(e: Emitter, a: Attention, q, k, v) -> gs.Tensor:
    """(B W H, N, D), (B W H, D, M), (B W H, M, D) -> the result."""
    n, m, width = a.tokens, a.k.rows.shape[1], a.v.columns.size
    scores = e.op("MatMul", q, k)
    if a.bias is not None or rest_of_scale(a) is not None:
        scores = e.reshape(_biased(e, a, e.reshape(scores, -1, a.windows, a.heads, n, m)), -1, n, m)
    mixed = e.op("MatMul", e.op("Softmax", scores, axis=-1), v)
    made = e.reshape(e.transpose(mixed, 1, 0, 2), n, -1, width)
    made = e.op("Identity", made)  # what comes before is this form, what comes after is a matter of order
    made = e.transpose(e.reshape(made, n, -1, a.windows, width), 1, 2, 0, 3)
    return as_result(e, e.reshape(made, -1, a.windows * n, width), a)


def _biased(e: Emitter, a: Attention, scores: gs.Tensor) -> gs.Tensor:
    rest = rest_of_scale(a)
    scores = scores if rest is None else e.op("Mul", scores, rest)
    return scores if a.bias is None else e.op("Add", scores, a.bias)


FORMS: dict[str, Callable[[Emitter, Attention], gs.Tensor]] = {
    "windows": windows,
    "windows_packed": windows_packed,
    "windows_operator": windows_operator,
    "positions_packed": positions_packed,
    "positions_planes": positions_planes,
    "positions_apart": positions_apart,
}
