"""The forms that an attention can be written in: ``form(emitter, attention, shapes) -> the tensor of its result``.

All compute the same. What differs is which copies a compiler needs between the projections and its fused kernel;
``make tune`` builds them and reads the kernels. Measured with TensorRT-RTX 1.7 at FP16 on four blocks of Swin-T:

* The fused kernel (``_gemm_mha``) reads Q, K and V through one batch stride and one row stride. With tokens window by
  window, (window, head) is no single stride, so the heads are copied apart first. With tokens *position by position*
  (all windows' first tokens, then all second ones) it is one, and no copy is needed: ``positions*``.
* It reads the output of a plain matrix product in place, also a third of it along its outermost axis; it does not so
  read a part of what a generated kernel wrote, and adding a bias makes it one. So K and V, whose biases can be
  moved away exactly (:mod:`exporter.rewrites.fold_attention_biases`), are one product, and Q with its bias another.
* With a free batch the sliced product is copied after all, and one product with a bias and one copy is best.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from exporter import linear
from exporter.attention import Attention, Operand, Refusal
from exporter.emit import Emitter
from exporter.naming import path_of
from exporter.surgery import Shapes


def windows(e: Emitter, a: Attention, shapes: Shapes) -> gs.Tensor:
    """Five axes (B, W, H, N, D), three projections."""
    projections = ((a.q, a.scale), (a.k, 1.0), (a.v, 1.0))
    q, k, v = (_split(e, _projected(e, operand, shapes, scale), operand) for operand, scale in projections)
    scores = e.op("MatMul", e.transpose(q, 0, 1, 3, 2, 4), e.transpose(k, 0, 1, 3, 4, 2))
    if a.bias is not None:
        scores = e.op("Add", scores, a.bias)
    mixed = e.op("MatMul", e.op("Softmax", scores, axis=-1), e.transpose(v, 0, 1, 3, 2, 4))
    return _as_result(e, e.reshape(e.transpose(mixed, 0, 1, 3, 2, 4), -1, a.q.rows.size, a.v.columns.size), a)


def windows_packed(e: Emitter, a: Attention, shapes: Shapes) -> gs.Tensor:
    """Five axes, one projection of 3 H D columns, split along the heads."""
    x, layers = _shared(e, a, shapes)
    weight, bias = _side_by_side([layers[i].columns(o.columns.reshape(-1), s) for i, o, s in _parts(a)])
    made = _with_bias(e, e.op("MatMul", x, weight), bias)
    (count, tokens), (heads, features) = a.q.rows.shape, a.q.columns.shape
    made = e.transpose(e.reshape(made, -1, count, tokens, 3 * heads, features), 0, 1, 3, 2, 4)
    q, k, v = e.op("Split", made, np.array([heads] * 3), outputs=3, axis=2)
    scores = e.op("MatMul", q, e.transpose(k, 0, 1, 2, 4, 3))
    if a.bias is not None:
        scores = e.op("Add", scores, a.bias)
    mixed = e.op("MatMul", e.op("Softmax", scores, axis=-1), v)
    return _as_result(e, e.reshape(e.transpose(mixed, 0, 1, 3, 2, 4), -1, a.q.rows.size, a.v.columns.size), a)


def positions_packed(e: Emitter, a: Attention, shapes: Shapes) -> gs.Tensor:
    """Rows position by position, one projection whose columns are head by head (Q, K, V of the first, ...)."""
    x, layers = _shared(e, a, shapes)
    chosen = [layers[i].columns(o.columns.reshape(-1), s) for i, o, s in _parts(a)]
    heads, features = a.q.columns.shape
    weight, bias = _side_by_side(chosen)
    order = np.arange(3 * heads * features).reshape(3, heads, features).transpose(1, 0, 2).reshape(-1)
    made = e.op("MatMul", _by_position(e, x, a), weight[:, order])
    made = _with_bias(e, made, None if bias is None else bias[order])
    made = e.transpose(e.reshape(made, a.tokens, -1, 3 * features), 1, 0, 2)
    q, k, v = e.op("Split", made, np.array([features] * 3), outputs=3, axis=2)
    return _attend_by_position(e, a, q, e.transpose(k, 0, 2, 1), v)


def positions_planes(e: Emitter, a: Attention, shapes: Shapes) -> gs.Tensor:
    """Rows position by position; what has no bias is one product with a plane for each of its operands."""
    x, layers = _shared(e, a, shapes)
    x = e.reshape(_by_position(e, x, a), 1, -1, x_width(layers))
    heads, features = a.q.columns.shape
    made: dict[int, gs.Tensor] = {}
    chosen = {i: layers[i].columns(o.columns.reshape(-1), s) for i, o, s in _parts(a)}
    bare = [i for i, (_, bias) in chosen.items() if bias is None]
    for i, (weight, bias) in chosen.items():
        if bias is not None:
            product = e.op("Add", e.op("MatMul", x, weight[None]), bias)
            made[i] = e.reshape(product, a.tokens, -1, features)
    if bare:
        planes = e.op("MatMul", x, np.stack([chosen[i][0] for i in bare]))
        planes = e.reshape(planes, len(bare), a.tokens, -1, features)
        parts = e.op("Split", planes, np.array([1] * len(bare)), outputs=len(bare), axis=0) if len(bare) > 1 else planes
        for i, part in zip(bare, parts if len(bare) > 1 else [parts], strict=True):
            made[i] = e.op("Squeeze", part, np.array([0]))
    return _attend_by_position(e, a, e.transpose(made[0], 1, 0, 2), e.transpose(made[1], 1, 2, 0), e.transpose(made[2], 1, 0, 2))


def _parts(a: Attention):
    """(number, operand, scale) of Q, K and V."""
    return (0, a.q, a.scale), (1, a.k, 1.0), (2, a.v, 1.0)


def x_width(layers: list[linear.Linear]) -> int:
    return len(layers[0].weight)


def _shared(e: Emitter, a: Attention, shapes: Shapes):
    """The input that Q, K and V have in common as (B, rows, C), and their three linear layers."""
    layers = [linear.of(operand.source) for operand in (a.q, a.k, a.v)]
    if any(layer is None for layer in layers):
        raise Refusal("its queries, keys or values are not the result of a linear layer")
    same = all(layer.input is layers[0].input for layer in layers)
    if not same or not (np.array_equal(a.q.rows, a.k.rows) and np.array_equal(a.q.rows, a.v.rows)):
        raise Refusal("its queries, keys and values are of different tokens")
    if a.q.columns.shape != a.v.columns.shape:
        raise Refusal("its values have another size than its queries")
    return _in_windows(e, layers[0].input, a.q, x_width(layers), shapes), layers


def _in_windows(e: Emitter, tensor: gs.Tensor, operand: Operand, width: int, shapes: Shapes) -> gs.Tensor:
    """A layer's input or output as (B, windows' tokens, width)."""
    rows = int(np.prod(shapes(1).shapes[operand.source.name][:-1]))
    tensor = e.reshape(tensor, -1, rows, width)
    whole = rows == operand.rows.size and operand.in_order
    return tensor if whole else e.op("Gather", tensor, operand.rows.reshape(-1), axis=1)


def _by_position(e: Emitter, tensor: gs.Tensor, a: Attention) -> gs.Tensor:
    """(B, W N, C) -> (N, B W, C)."""
    width = len(linear.of(a.q.source).weight)
    made = e.transpose(e.reshape(tensor, -1, a.windows, a.tokens, width), 2, 0, 1, 3)
    return e.reshape(made, a.tokens, -1, width)


def _attend_by_position(e: Emitter, a: Attention, q, k, v) -> gs.Tensor:
    """Three axes: (B W H, N, D), (B W H, D, N), (B W H, N, D); the result image by image."""
    n, width = a.tokens, a.v.columns.size
    scores = e.op("MatMul", q, k)
    if a.bias is not None:
        apart = e.reshape(scores, -1, a.windows, a.heads, n, n)
        scores = e.reshape(e.op("Add", apart, a.bias), -1, n, n)
    mixed = e.op("MatMul", e.op("Softmax", scores, axis=-1), v)
    made = e.reshape(e.transpose(mixed, 1, 0, 2), n, -1, width)
    made = e.op("Identity", made)  # what comes before is this form, what comes after is a matter of order
    made = e.transpose(e.reshape(made, n, -1, a.windows, width), 1, 2, 0, 3)
    return _as_result(e, e.reshape(made, -1, a.windows * n, width), a)


def _projected(e: Emitter, operand: Operand, shapes: Shapes, scale: float) -> gs.Tensor:
    """The operand's columns as (B, rows, H D), in the order of the windows."""
    layer = linear.of(operand.source)
    if layer is None:
        raise Refusal(f"{operand.source.name} is not the result of a linear layer")
    chosen = operand.columns.reshape(-1)
    weight, bias = layer.columns(chosen, scale)
    e.path = path_of(layer.node.name)
    made = _with_bias(e, e.op("MatMul", layer.input, weight), bias)
    return _in_windows(e, made, operand, len(chosen), shapes)


def _with_bias(e: Emitter, made: gs.Tensor, bias: np.ndarray | None) -> gs.Tensor:
    return made if bias is None else e.op("Add", made, bias)


def _side_by_side(parts: list[tuple[np.ndarray, np.ndarray | None]]) -> tuple[np.ndarray, np.ndarray | None]:
    """One layer that computes several; a missing bias is zeros where another part has one."""
    weight = np.concatenate([w for w, _ in parts], 1)
    if all(b is None for _, b in parts):
        return weight, None
    return weight, np.concatenate([np.zeros(w.shape[1], w.dtype) if b is None else b for w, b in parts])


def _split(e: Emitter, made: gs.Tensor, operand: Operand) -> gs.Tensor:
    return e.reshape(made, -1, *operand.rows.shape, *operand.columns.shape)


def _as_result(e: Emitter, made: gs.Tensor, a: Attention) -> gs.Tensor:
    """(B, W N, H D) as the attention's readers want it."""
    if not np.array_equal(a.rows, np.arange(a.q.rows.size)):
        made = e.op("Gather", made, a.rows, axis=1)
    return e.reshape(made, -1, *a.width[1:])


FORMS = {
    "windows": windows,
    "windows_packed": windows_packed,
    "positions_packed": positions_packed,
    "positions_planes": positions_planes,
}
