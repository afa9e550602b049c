"""Random small networks of the operators that the rewrites know, written in the many ways of exporters.

``network(seed)`` is tokens of an image through a few layers drawn at random: patch embedding or a projection, norms,
attention (global or in shifted windows), MLPs, token mixing, convolutions with batch normalisation, and between them
what exporters leave: identities, casts, expansions, shape arithmetic, guards. Some layers only look like one that a
rewrite knows (a softmax over another axis, a mask of the input's own values, a roll that is none).
"""

import numpy as np
from graphs import i64
from windows import Builder, merging, partition, reverse, roll

FAR = np.iinfo(np.int64).max
HOW = ("reshape", "gather", "slices")


class Network(Builder):
    """Tokens (batch, h, w, C) on their way; ``rng`` draws what comes next."""

    def __init__(self, rng):
        super().__init__(opset=int(rng.choice([17, 18, 20, 22, 22])))
        self.rng = rng
        self.size = tuple(int(n) for n in rng.choice([2, 4, 6], 2))
        self.width = int(rng.choice([4, 8, 12]))

    def draw(self, *shape, scale=1.0) -> np.ndarray:
        return (scale * self.rng.standard_normal(shape)).astype(np.float32)

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def one_of(self, *choices):
        return choices[int(self.rng.integers(len(choices)))]

    @property
    def tokens(self) -> int:
        return self.size[0] * self.size[1]

    def rows(self, x):
        return self.op("Reshape", x, i64(-1, self.tokens, self.width))

    def image(self, x):
        return self.op("Reshape", x, i64(-1, *self.size, self.width))

    def linear(self, x, inner: int, outer: int, rank=4):
        weight, bias = self.draw(inner, outer, scale=inner**-0.5), self.draw(outer, scale=0.3)
        if self.chance(0.2):
            flat = self.op("Reshape", x, i64(-1, inner))
            made = self.op("Gemm", flat, weight.T.copy(), bias, transB=1)
            return self.op("Reshape", made, i64(-1, *self.size, outer) if rank == 4 else i64(-1, self.tokens, outer))
        made = self.op("MatMul", x, weight)
        if self.chance(0.8):
            made = self.op("Add", made, bias) if self.chance(0.5) else self.op("Add", bias, made)
        return made

    def normed(self, x, width=None):
        width = width or self.width
        gain, shift = 1 + self.draw(width, scale=0.2), self.draw(width, scale=0.2)
        if self.chance(0.5):
            return self.op("LayerNormalization", x, gain, shift, axis=-1, epsilon=1e-5)
        middle = self.mean(x, -1, keepdims=1)
        if self.chance(0.2):
            middle = self.op("Expand", middle, self.op("Shape", x))
        centred = self.op("Sub", x, middle)
        square = self.op("Mul", centred, centred) if self.chance(0.5) else self.op("Pow", centred, np.float32(2))
        deviation = self.op("Sqrt", self.op("Add", self.mean(square, -1, keepdims=1), np.float32(1e-5)))
        normal = self.op("Div", centred, deviation)
        return self.op("Add", self.op("Mul", normal, gain), shift)

    def activation(self, x):
        kind = self.one_of("Relu", "Tanh", "gelu", "gelu", "gelu times half last", "Sigmoid")
        if not kind.startswith("gelu"):
            return self.op(kind, x)
        if self.opset >= 20 and self.chance(0.3):
            return self.op("Gelu", x)
        inner = self.op("Erf", self.op("Div", x, np.float32(2**0.5)))
        inner = self.op("Add", inner, np.float32(1))
        if kind == "gelu":
            return self.op("Mul", self.op("Mul", x, np.float32(0.5)), inner)
        return self.op("Mul", self.op("Mul", x, inner), np.float32(0.5))

    def mlp_of(self, x):
        return self.linear(self.activation(self.linear(x, self.width, 2 * self.width)), 2 * self.width, self.width)

    def attention(self, x, count: int):
        """(B, count, C) -> the same; rows attend to each other in some number of heads."""
        c, heads = self.width, self.one_of(1, 2, 4)
        d = c // heads
        parts = self._projections(x, count, heads, d)
        q, k, v = parts
        scale = np.float32(d**-0.5)
        where = self.one_of("scores", "scores", "queries", "divided", "none", "both")
        if where in ("queries", "both"):
            q = self.op("Mul", q, scale if where == "queries" else np.sqrt(scale))
        if where == "both":
            k = self.op("Mul", k, np.sqrt(scale))
        scores = self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 3, 2]))
        if where == "scores":
            scores = self.op("Mul", scores, scale)
        if where == "divided":
            scores = self.op("Div", scores, 1 / scale)
        if self.chance(0.6):
            bias = self.draw(heads, count, count)
            bias = bias[:1] if self.chance(0.2) else bias
            scores = self.op("Add", scores, bias) if self.chance(0.7) else self.op("Add", bias[None], scores)
        if self.chance(0.15):  # a mask of the input's own values
            own = self.op("Transpose", self.mean(x, -1, keepdims=1), perm=[0, 2, 1])
            scores = self.op("Add", scores, self.op("Unsqueeze", own, i64(1)))
        axis = -1 if self.chance(0.93) else -2
        weights = self.op("Softmax", scores, axis=axis)
        if self.chance(0.2):
            weights = self.op("Where", self.op("IsNaN", weights), np.float32(0), weights)
        mixed = self.op("MatMul", weights, v)
        mixed = self.op("Transpose", mixed, perm=[0, 2, 1, 3])
        merged = self.op("MatMul", self.op("Reshape", mixed, i64(-1, count, c)), self.draw(c, c, scale=c**-0.5))
        return self.op("Add", merged, self.draw(c, scale=0.3))

    def _projections(self, x, count: int, heads: int, d: int) -> list:
        c = self.width
        if self.chance(0.5):
            made = self.op("Add", self.op("MatMul", x, self.draw(c, 3 * c, scale=c**-0.5)), self.draw(3 * c, scale=0.3))
            if self.chance(0.5):
                made = self.op("Reshape", made, i64(-1, count, 3, heads, d))
                made = self.op("Transpose", made, perm=[2, 0, 3, 1, 4])
                if self.chance(0.5):
                    return [self.op("Gather", made, np.int64(i), axis=0) for i in range(3)]
                return [
                    self.op("Squeeze", self.op("Slice", made, i64(i), i64(i + 1), i64(0)), i64(0)) for i in range(3)
                ]
            parts = self.op("Split", made, i64(c, c, c), outputs=3, axis=2)
        else:
            parts = [
                self.op("Add", self.op("MatMul", x, self.draw(c, c, scale=c**-0.5)), self.draw(c, scale=0.3))
                for _ in range(3)
            ]
        return [
            self.op("Transpose", self.op("Reshape", part, i64(-1, count, heads, d)), perm=[0, 2, 1, 3])
            for part in parts
        ]

    def windowed(self, x):
        window = tuple(int(self.rng.choice([n for n in (1, 2, 3, 6) if side % n == 0])) for side in self.size)
        shift = tuple(int(self.rng.integers(n)) if self.chance(0.6) else 0 for n in window)
        how = self.one_of(*HOW)
        inner = roll(self, x, [-s for s in shift], self.size, self.one_of("gather", "slices"))
        if self.chance(0.1) and self.size[0] > 1:  # a roll that is none: the last row is there twice
            rows = np.minimum(np.arange(self.size[0]) + 1, self.size[0] - 1)
            inner = self.op("Gather", inner, rows, axis=1)
        count = window[0] * window[1]
        inner = self.attention(partition(self, inner, self.size, window, self.width, how), count)
        inner = reverse(self, inner, self.size, window, self.width, self.one_of(*HOW))
        return roll(self, inner, shift, self.size, self.one_of("gather", "slices"))

    def mixed_tokens(self, x):
        rows = self.op("Transpose", self.rows(x), perm=[0, 2, 1])
        t = self.tokens
        made = self.op("Add", self.op("MatMul", rows, self.draw(t, t, scale=t**-0.5)), self.draw(t, scale=0.3))
        return self.image(self.op("Transpose", self.activation(made), perm=[0, 2, 1]))

    def convolved(self, x):
        c = self.width
        made = self.op("Transpose", x, perm=[0, 3, 1, 2])
        made = self.op("Conv", made, self.draw(c, c, 3, 3, scale=0.2), self.draw(c), pads=[1] * 4)
        if self.chance(0.7):
            statistics = (1 + self.draw(c, scale=0.2), self.draw(c), self.draw(c), np.abs(self.draw(c)) + 0.5)
            made = self.op("BatchNormalization", made, *statistics, epsilon=1e-5)
        return self.op("Transpose", made, perm=[0, 2, 3, 1])

    def permuted(self, x):
        """Tokens in another order, or some of them twice."""
        t = self.tokens
        places = self.rng.permutation(t) if self.chance(0.7) else self.rng.integers(t, size=t)
        return self.image(self.op("Gather", self.rows(x), places.astype(np.int64), axis=1))

    def clutter(self, x):
        """Something that changes no value."""
        h, w = self.size
        match int(self.rng.integers(10)):
            case 0:
                return self.op("Identity", x)
            case 1:
                return self.op("Cast", x, to=1)
            case 2:
                return self.op("Slice", x, i64(0), i64(FAR), i64(self.one_of(1, 2, 3)))
            case 3:
                return self.op("Pad", x, i64(*[0] * 8))
            case 4:
                back = self.op("Transpose", self.op("Transpose", x, perm=[0, 2, 1, 3]), perm=[0, 2, 1, 3])
                return self.op("Squeeze", self.op("Unsqueeze", back, i64(1)), i64(1))
            case 5:
                sizes = self.op("Slice", self.op("Shape", x), i64(0), i64(1), i64(0))
                return self.op("Reshape", x, self.op("Concat", sizes, i64(h, w, self.width), axis=0))
            case 6:
                return self.op("Where", self.op("IsNaN", x), np.float32(0), x)
            case 7:
                return self.op("Expand", x, i64(1, h, w, self.width))
            case 8:
                table = self.op("Expand", self.draw(1, h, w, self.width), self.op("Shape", x))
                return self.op("Add", x, table)
            case _:
                return self.op("Add", x, self.op("Mul", self.draw(h, w, 1), np.full(self.width, 0.1, np.float32)))

    def layer(self, x):
        if self.chance(0.25):
            x = self.clutter(x)
        if self.chance(0.1):
            return self.permuted(x)
        part = self.one_of(
            self.windowed, self.windowed, self.windowed, self.mlp_of, self.mlp_of, self.mixed_tokens, self.convolved,
            lambda y: self.image(self.attention(self.rows(y), self.tokens)),
        )  # fmt: skip
        made = part(self.normed(x) if self.chance(0.8) else x)
        if self.chance(0.15):
            made = self.clutter(made)
        return self.op("Add", x, made) if self.chance(0.85) else made

    def begin(self):
        """(the first tokens, the input's shape)."""
        h, w = self.size
        if self.chance(0.6):
            return self.linear("x", self.width, self.width), ["batch", h, w, self.width]
        patch = self.one_of(1, 2, 3)
        made = self.op("Conv", "x", self.draw(self.width, 3, patch, patch, scale=0.4), self.draw(self.width),
                       strides=[patch] * 2, kernel_shape=[patch] * 2)  # fmt: skip
        if self.chance(0.5):
            made = self.op("Reshape", made, i64(-1, self.width, self.tokens))
            made = self.image(self.op("Transpose", made, perm=[0, 2, 1]))
        else:
            made = self.op("Transpose", made, perm=[0, 2, 3, 1])
        return made, ["batch", 3, h * patch, w * patch]

    def end(self, x):
        """(the output, its shape)."""
        c, kind = self.width, self.one_of("mean", "mean", "tokens", "first", "first", "image")
        if kind == "first" and self.chance(0.7):
            x = self.normed(self.rows(x))
            x = self.linear(x, c, c, rank=3) if self.chance(0.5) else x
            made = self.op("Gather", x, np.int64(self.rng.integers(self.tokens)), axis=1)
            return self.op("MatMul", made, self.draw(c, 3)), ["batch", 3]
        x = self.normed(x)
        match kind:
            case "mean":
                made = self.mean(x, 1, 2) if self.chance(0.5) else self.mean(self.rows(x), 1)
                return self.op("MatMul", made, self.draw(c, 3)), ["batch", 3]
            case "first":
                made = self.op("Gather", self.rows(x), np.int64(self.rng.integers(self.tokens)), axis=1)
                return self.op("MatMul", made, self.draw(c, 3)), ["batch", 3]
            case "tokens":
                return self.rows(x), ["batch", self.tokens, c]
        return self.op("Transpose", x, perm=[0, 3, 1, 2]), ["batch", c, *self.size]


def network(seed: int):
    """The network of a seed: one input x and one output, the first axis free."""
    made = Network(np.random.default_rng(seed))
    x, given = made.begin()
    for _ in range(int(made.rng.integers(1, 5))):
        x = made.layer(x)
        if made.chance(0.12) and not (made.size[0] % 2 or made.size[1] % 2):
            x = merging(made, x, made.size, made.width, made.one_of("reshape", "slices"))
            made.size = (made.size[0] // 2, made.size[1] // 2)
            x = made.image(made.op("MatMul", x, made.draw(4 * made.width, made.width, scale=0.3)))
    y, answered = made.end(x)
    return made.model({"x": given}, {y: answered})
