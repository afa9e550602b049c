"""Movement of tokens in an image, written in the ways that exporters write it: rolls, windows, patch merging."""

import numpy as np
import onnx
from graphs import f32, i64
from onnx import helper, numpy_helper


class Builder:
    """A graph in the making: ``op`` appends a node, arrays among its inputs become initializers."""

    def __init__(self, opset=22):
        self.opset, self.nodes, self.weights = opset, [], []

    def op(self, op: str, *inputs, outputs=1, **attrs):
        names = []
        for value in inputs:
            if not isinstance(value, str):
                self.weights.append(numpy_helper.from_array(np.asarray(value), f"c{len(self.weights)}"))
                value = self.weights[-1].name
            names.append(value)
        number = len(self.nodes)
        made = [f"t{number}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, names, made, f"blocks.0/{op}_{number}", **attrs))
        return made[0] if outputs == 1 else made

    def mean(self, x, *axes, op="ReduceMean", keepdims=0):
        if self.opset < 18:
            return self.op(op, x, axes=list(axes), keepdims=keepdims)
        return self.op(op, x, i64(*axes), keepdims=keepdims)

    def norm(self, x, width, seed=0):
        return self.op("LayerNormalization", x, 1 + f32(width, seed=seed) / 9, f32(width, seed=seed + 1), axis=-1)

    def mlp(self, x, width, seed=0):
        inner = self.op("Relu", self.op("Add", self.op("MatMul", x, f32(width, 2 * width, seed=seed)), f32(2 * width)))
        return self.op("MatMul", inner, f32(2 * width, width, seed=seed + 1) / 4)

    def mix(self, x, tokens, width, seed=0):
        """What stands for attention: tokens of the axis before the last one are mixed, a linear layer follows."""
        return self.op("MatMul", self.op("MatMul", f32(tokens, tokens, seed=seed) / tokens, x), f32(width, width))

    def model(self, inputs: dict, outputs: dict) -> onnx.ModelProto:
        """``inputs`` and ``outputs`` name shapes; a string in a shape is a free axis."""
        infos = [
            [helper.make_tensor_value_info(name, 1, shape) for name, shape in values.items()]
            for values in (inputs, outputs)
        ]
        made = helper.make_graph(self.nodes, "g", *infos, self.weights)
        return helper.make_model(made, ir_version=10, opset_imports=[helper.make_opsetid("", self.opset)])


def roll(b: Builder, x, shift, size, how):
    """torch.roll of (B, h, w, C) by ``shift`` along both axes."""
    if how == "gather":
        for axis in (1, 2):
            x = b.op("Gather", x, np.roll(np.arange(size[axis - 1]), shift[axis - 1]), axis=axis)
        return x
    for axis in (1, 2):
        start, far = -shift[axis - 1] % size[axis - 1], np.iinfo(np.int64).max
        if start:
            tail = b.op("Slice", x, i64(start), i64(far), i64(axis), i64(1))
            x = b.op("Concat", tail, b.op("Slice", x, i64(0), i64(start), i64(axis)), axis=axis)
    return x


def _places(size, window) -> np.ndarray:
    """The tokens of an image window by window."""
    (h, w), (p, q) = size, window
    return np.arange(h * w).reshape(h // p, p, w // q, q).swapaxes(1, 2).reshape(-1)


def partition(b: Builder, x, size, window, width, how):
    """(B, h, w, C) -> (B windows, tokens, C)."""
    (h, w), (p, q) = size, window
    if how == "gather":
        flat = b.op("Gather", b.op("Reshape", x, i64(-1, h * w, width)), _places(size, window), axis=1)
        return b.op("Reshape", flat, i64(-1, p * q, width))
    if how == "slices":
        rows = [b.op("Slice", x, i64(i), i64(i + p), i64(1)) for i in range(0, h, p)]
        tiles = [b.op("Slice", r, i64(i), i64(i + q), i64(2)) for r in rows for i in range(0, w, q)]
        made = b.op("Concat", *(b.op("Unsqueeze", t, i64(1)) for t in tiles), axis=1)
        return b.op("Reshape", made, i64(-1, p * q, width))
    made = b.op("Transpose", b.op("Reshape", x, i64(-1, h // p, p, w // q, q, width)), perm=[0, 1, 3, 2, 4, 5])
    return b.op("Reshape", made, i64(-1, p * q, width))


def reverse(b: Builder, x, size, window, width, how):
    """(B windows, tokens, C) -> (B, h, w, C)."""
    (h, w), (p, q) = size, window
    if how == "gather":
        back = np.argsort(_places(size, window))
        flat = b.op("Gather", b.op("Reshape", x, i64(-1, h * w, width)), back, axis=1)
        return b.op("Reshape", flat, i64(-1, h, w, width))
    made = b.op("Reshape", x, i64(-1, h // p, w // q, p, q, width))
    if how == "slices":
        tiles = [b.op("Squeeze", b.op("Slice", made, i64(i), i64(i + 1), i64(1)), i64(1)) for i in range(h // p)]
        rows = [b.op("Transpose", t, perm=[0, 2, 1, 3, 4]) for t in tiles]
        return b.op("Concat", *(b.op("Reshape", r, i64(-1, p, w, width)) for r in rows), axis=1)
    return b.op("Reshape", b.op("Transpose", made, perm=[0, 1, 3, 2, 4, 5]), i64(-1, h, w, width))


def merging(b: Builder, x, size, width, how):
    """(B, h, w, C) -> (B, h w / 4, 4 C): the four neighbours column by column, as Swin's patch merging."""
    h, w = size
    if how == "reshape":
        made = b.op("Reshape", x, i64(-1, h // 2, 2, w // 2, 2, width))
        made = b.op("Transpose", made, perm=[0, 1, 3, 4, 2, 5])
        return b.op("Reshape", made, i64(-1, h * w // 4, 4 * width))
    far = i64(np.iinfo(np.int64).max)
    quarters = []
    for row, column in ((0, 0), (1, 0), (0, 1), (1, 1)):
        half = b.op("Slice", x, i64(row), far, i64(1), i64(2))
        quarters.append(b.op("Slice", half, i64(column), far, i64(2), i64(2)))
    return b.op("Reshape", b.op("Concat", *quarters, axis=-1), i64(-1, h * w // 4, 4 * width))


def block(b: Builder, x, size, window, shift, width, how, seed=0):
    """x + windows(LayerNorm(x)), then x + MLP(LayerNorm(x)), on (B, h, w, C)."""
    inner = roll(b, b.norm(x, width, seed), [-s for s in shift], size, how)
    inner = b.mix(partition(b, inner, size, window, width, how), window[0] * window[1], width, seed)
    inner = roll(b, reverse(b, inner, size, window, width, how), shift, size, how)
    x = b.op("Add", x, inner)
    return b.op("Add", x, b.mlp(b.norm(x, width, seed + 2), width, seed))


def swin(size, window, shift, how, width=4, depth=2, merge=True, end="mean", opset=22, merge_how=None):
    """Blocks of windows that shift every other time, patch merging, and the mean or all tokens."""
    h, w = size
    b = Builder(opset)
    x = b.op("MatMul", "x", f32(width, width))
    for i in range(depth):
        x = block(b, x, size, window, shift if i % 2 else (0, 0), width, how, 10 * i)
    tokens = h * w
    if merge:
        x = b.norm(merging(b, x, size, width, merge_how or ("reshape" if how == "reshape" else "slices")), 4 * width)
        x = b.op("MatMul", x, f32(4 * width, width, seed=3))
        tokens //= 4
    axes = (1,) if merge else (1, 2)
    if end == "mean":
        y = b.op("MatMul", b.mean(b.norm(x, width), *axes), f32(width, 3))
        return b.model({"x": ["batch", h, w, width]}, {y: ["batch", 3]})
    y = b.op("Reshape", b.norm(x, width), i64(-1, tokens, width))
    return b.model({"x": ["batch", h, w, width]}, {y: ["batch", tokens, width]})
