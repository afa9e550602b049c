"""The pieces that every form of an attention is put together from: projections, windows, positions, cosine lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from exporter import linear
from exporter.attention import Attention, Operand
from exporter.emit import Emitter
from exporter.errors import Refusal
from exporter.orders import Order, convert

LEAST = 1e-4
"""Columns whose length is below this share of the longest one are taken for dead."""


class Projections:
    """Q, K and V of an attention as weights: ``inputs``, ``weights`` (C, H D) and ``biases`` (H D,) or None, each of
    three, the columns head by head; the scale is inside Q's, unless Q is normalised, or shared out if ``balanced``."""

    def __init__(self, e: Emitter, a: Attention):
        self.operands = (a.q, a.k, a.v)
        layers = [linear.of(operand.source) for operand in self.operands]
        for operand, layer in zip(self.operands, layers, strict=True):
            if layer is None:
                raise Refusal(f"{operand.source.name} is not the result of a linear layer")
        self.e = e.beside(layers[0].node)
        scale = np.repeat(a.scale, a.q.columns.shape[1]) if a.q.normalised is None else np.float32(1)
        scales = (scale, np.float32(1), np.float32(1))
        chosen = [
            layer.columns(o.columns.reshape(-1), s) for layer, o, s in zip(layers, self.operands, scales, strict=True)
        ]
        self.inputs = [layer.input for layer in layers]
        self.weights = [weight for weight, _ in chosen]
        self.biases = [bias for _, bias in chosen]
        if a.balanced and a.q.normalised is None and a.k.normalised is None:
            self._balance()
        self._rows: dict[tuple, gs.Tensor] = {}

    def _balance(self) -> None:
        """Divide each column of K by what Q's is multiplied by, which no score sees, until both weights are as long."""
        lengths = [np.linalg.norm(weight.astype(np.float64), axis=0) for weight in self.weights[:2]]
        if not min(n.min() for n in lengths) > LEAST * max(n.max() for n in lengths):
            return  # a column that is all but dead has no length to share
        factor = np.sqrt(lengths[1] / lengths[0])
        for i, factors in ((0, factor), (1, 1 / factor)):
            self.weights[i] = (self.weights[i] * factors).astype(np.float32)
            self.biases[i] = None if self.biases[i] is None else (self.biases[i] * factors).astype(np.float32)

    def shared(self) -> bool:
        """Whether all three are projections of the same tokens to as many columns."""
        first = self.operands[0]
        return all(x is self.inputs[0] for x in self.inputs) and all(
            np.array_equal(first.rows, o.rows) and first.columns.shape == o.columns.shape for o in self.operands[1:]
        )

    def input(self, index: int, by_position: bool) -> gs.Tensor:
        """The input of one projection: (B, W N, C), or position by position, (N, B W, C)."""
        operand, tensor = self.operands[index], self.inputs[index]
        key = (id(tensor), operand.rows.tobytes(), by_position)
        if key not in self._rows:
            width = len(self.weights[index])
            made = in_windows(self.e, tensor, operand, width)
            if by_position:
                windows, tokens = operand.rows.shape
                made = self.e.transpose(self.e.reshape(made, -1, windows, tokens, width), 2, 0, 1, 3)
                made = self.e.reshape(made, tokens, -1, width)
            self._rows[key] = made
        return self._rows[key]

    def packed(self, group: Sequence[int]) -> tuple[np.ndarray, np.ndarray | None]:
        """Several of them as one layer; a missing bias is zeros where another has one."""
        weights, biases = ([those[i] for i in group] for those in (self.weights, self.biases))
        weight = np.concatenate(weights, 1)
        if all(bias is None for bias in biases):
            return weight, None
        filled = [np.zeros(w.shape[1], w.dtype) if b is None else b for w, b in zip(weights, biases, strict=True)]
        return weight, np.concatenate(filled)


def in_windows(e: Emitter, tensor: gs.Tensor, operand: Operand, width: int) -> gs.Tensor:
    """A layer's input or output as (B, W N, width), window by window."""
    count, positions = len(operand.order.tokens), operand.order.positions
    if positions > 1:
        tensor = e.transpose(e.reshape(tensor, positions, -1, count // positions, width), 1, 0, 2, 3)
    tensor = e.reshape(tensor, -1, count, width)
    rows = operand.rows.reshape(-1)
    return tensor if np.array_equal(rows, np.arange(count)) else e.op("Gather", tensor, rows, axis=1)


def with_bias(e: Emitter, made: gs.Tensor, bias: np.ndarray | None) -> gs.Tensor:
    return made if bias is None else e.op("Add", made, bias)


def unit(e: Emitter, tensor: gs.Tensor, operand: Operand) -> gs.Tensor:
    """Heads' vectors along the last axis divided by their length, where the operand is normalised."""
    if operand.normalised is None:
        return tensor
    axes, inputs = ({"axes": [-1]}, ()) if e.graph.opset < 18 else ({}, (np.array([-1]),))  # an attribute before 18
    length = e.op("ReduceL2", tensor, *inputs, keepdims=1, **axes)
    return e.op("Div", tensor, e.op("Clip", length, np.float32(operand.normalised)))


def rest_of_scale(a: Attention) -> np.ndarray | None:
    """What the scores must still be multiplied by, (H, 1, 1)."""
    return None if a.q.normalised is None else a.scale.reshape(-1, 1, 1)


def as_result(e: Emitter, made: gs.Tensor, a: Attention) -> gs.Tensor:
    """(B, W N, H D), window by window, as the attention's readers want it."""
    width = a.v.columns.size
    if a.order.natural:
        return e.reshape(made, *a.shape)
    natural = Order(np.arange(a.q.rows.size))
    made = e.op("Identity", made)  # what comes before is this form, what comes after is a matter of order
    return e.reshape(convert(e, e.reshape(made, -1, width), natural, a.order, width), *a.shape)
