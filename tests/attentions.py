"""One attention in windows, written in the many ways that exporters write it; all compute :func:`expected`."""

import numpy as np
from graphs import f32, graph, i64

W, N, H, D = 2, 3, 2, 4
"""Windows of an image, tokens of a window, heads, features of a head."""
T, C, E = W * N, 6, H * D

WEIGHTS = {f"w{i}": f32(C, E, seed=n) for n, i in enumerate("qkv")} | {
    f"b{i}": f32(E, seed=10 + n) for n, i in enumerate("qkv")
}
SCALE = np.float32(0.37)
BIAS = f32(H, N, N, seed=20)
MASK = np.where(f32(W, N, N, seed=21) > 0, np.float32(-100), np.float32(0))


def _packed(order="qkv") -> dict:
    """Weights and biases of one layer for all three, one after the other."""
    weight, bias = (np.concatenate([WEIGHTS[kind + i] for i in order], -1) for kind in "wb")
    return {"w": weight, "b": bias}


def _by_head() -> dict:
    """The columns of one layer head by head: Q, K, V of the first head, then of the second one."""
    return {
        name: values.reshape(-1, 3, H, D).swapaxes(1, 2).reshape(*values.shape) for name, values in _packed().items()
    }


ONE = "l = MatMul (x, w)\n a = Add (l, b)\n"
FIVE = ONE + "r = Reshape (a, five)\n t = Transpose <perm = [2, 0, 3, 1, 4]> (r)\n"
FIVE_SHAPE = {"five": i64(-1, N, 3, H, D)}
FOUR = {"four": i64(-1, N, H, D)}


def each(lines: str, letters="qkv") -> str:
    """``lines`` for each of Q, K and V: ``@`` stands for the letter, ``#`` for its number."""
    return "".join(lines.replace("@", letter).replace("#", str("qkv".index(letter))) for letter in letters)


HEADS = each("@r = Reshape (@a, four)\n @ = Transpose <perm = [0, 2, 1, 3]> (@r)\n")
LINEARS = each("@l = MatMul (x, w@)\n @a = Add (@l, b@)\n")
ZERO_TO_THREE = {f"n{i}": i64(i) for i in range(4)}

PROJECTIONS = {
    "slice and squeeze": (
        FIVE + each("@s = Slice (t, n#, e#, n0, n1)\n @ = Squeeze (@s, n0)\n"),
        _packed() | FIVE_SHAPE | ZERO_TO_THREE | {f"e{i}": i64(i + 1) for i in range(3)},
    ),
    "gather": (
        FIVE + each("@ = Gather <axis = 0> (t, g#)\n"),
        _packed() | FIVE_SHAPE | {f"g{i}": np.int64(i) for i in range(3)},
    ),
    "split and squeeze": (
        FIVE + "qs, ks, vs = Split <axis = 0> (t, ones)\n" + each("@ = Squeeze (@s, n0)\n"),
        _packed() | FIVE_SHAPE | {"ones": i64(1, 1, 1), "n0": i64(0)},
    ),
    "split and reshape": (
        FIVE + "qs, ks, vs = Split <axis = 0> (t, ones)\n" + each("@ = Reshape (@s, heads)\n"),
        _packed() | FIVE_SHAPE | {"ones": i64(1, 1, 1), "heads": i64(-1, H, N, D)},
    ),
    "split of the columns": (
        ONE + "qa, ka, va = Split <axis = 2> (a, thirds)\n" + HEADS,
        _packed() | FOUR | {"thirds": i64(E, E, E)},
    ),
    "slices of the columns, values first": (
        ONE + each("@a = Slice (a, s@, e@, two)\n") + HEADS,
        _packed("vqk")
        | FOUR
        | {"two": i64(2)}
        | {f"s{c}": i64(i * E) for i, c in enumerate("vqk")}
        | {f"e{c}": i64((i + 1) * E) for i, c in enumerate("vqk")},
    ),
    "columns head by head": (
        ONE + "r = Reshape (a, heads)\n t = Transpose <perm = [0, 2, 1, 3]> (r)\n"
        "q, k, v = Split <axis = -1> (t, thirds)\n",
        _by_head() | {"heads": i64(-1, N, H, 3 * D), "thirds": i64(D, D, D)},
    ),
    "three layers": (LINEARS + HEADS, WEIGHTS | FOUR),
    "three layers, the bias first": (each("@l = MatMul (x, w@)\n @a = Add (b@, @l)\n") + HEADS, WEIGHTS | FOUR),
    "three layers of a flat matrix": (
        "f = Reshape (x, flat)\n" + each("@a = Gemm <transB = 1> (f, t@, b@)\n") + HEADS,
        WEIGHTS | FOUR | {"flat": i64(-1, C)} | {f"t{c}": WEIGHTS[f"w{c}"].T.copy() for c in "qkv"},
    ),
}

KEYS = "kt = Transpose <perm = [0, 1, 3, 2]> (k)\n"
SCALES = {
    "on the scores": (KEYS + "s0 = MatMul (q, kt)\n s = Mul (s0, scale)\n", {"scale": SCALE}),
    "on the scores, the number first": (KEYS + "s0 = MatMul (q, kt)\n s = Mul (scale, s0)\n", {"scale": SCALE}),
    "on the scores, divided": (KEYS + "s0 = MatMul (q, kt)\n s = Div (s0, scale)\n", {"scale": 1 / SCALE}),
    "on the queries": ("q2 = Mul (q, scale)\n" + KEYS + "s = MatMul (q2, kt)\n", {"scale": SCALE}),
    "on the queries, divided": ("q2 = Div (q, scale)\n" + KEYS + "s = MatMul (q2, kt)\n", {"scale": 1 / SCALE}),
    "on the keys": (KEYS + "k2 = Mul (kt, scale)\n s = MatMul (q, k2)\n", {"scale": np.full((1, 1), SCALE)}),
    "half on each": (
        "q2 = Mul (q, root)\n" + KEYS + "k2 = Mul (kt, root)\n s = MatMul (q2, k2)\n",
        {"root": np.sqrt(SCALE)},
    ),
    "a number for each head": (
        KEYS + "s0 = MatMul (q, kt)\n s = Mul (s0, scale)\n",
        {"scale": np.full((H, 1, 1), SCALE)},
    ),
}

BIASES = {
    "none": ("", {}),
    "one number a head, query and key": ("b2 = Add (s, bias)\n", {"bias": BIAS}),
    "the bias first": ("b2 = Add (bias, s)\n", {"bias": BIAS[None]}),
    "subtracted": ("b2 = Sub (s, bias)\n", {"bias": -BIAS}),
    "bias and mask": (
        "b0 = Add (s, bias)\n b1 = Reshape (b0, split)\n b3 = Add (b1, mask)\n b2 = Reshape (b3, joined)\n",
        {"bias": BIAS, "mask": MASK[:, None], "split": i64(-1, W, H, N, N), "joined": i64(-1, H, N, N)},
    ),
    "mask and bias": (
        "b0 = Reshape (s, split)\n b1 = Add (b0, mask)\n b3 = Reshape (b1, joined)\n b2 = Add (b3, bias)\n",
        {"bias": BIAS, "mask": MASK[None, :, None], "split": i64(-1, W, H, N, N), "joined": i64(-1, H, N, N)},
    ),
    "both in one": (
        "b0 = Reshape (s, split)\n b1 = Add (b0, bias)\n b2 = Reshape (b1, joined)\n",
        {"bias": BIAS + MASK[:, None], "split": i64(-1, W, H, N, N), "joined": i64(-1, H, N, N)},
    ),
}
MIX = "p = Softmax <axis = -1> (b2)\n o = MatMul (p, v)\n"
MERGE = {"merged": i64(-1, T, E), "windows": i64(-1, N, C), "wo": f32(E, C, seed=30), "bo": f32(C, seed=31)}
END = "ot = Transpose <perm = [0, 2, 1, 3]> (o)\n r9 = Reshape (ot, merged)\n y0 = MatMul (r9, wo)\n y = Add (y0, bo)\n"


def attention(
    projection="three layers", scale="on the scores", bias="bias and mask", opset=22, mix=MIX, end=END, **more
):
    """x (batch, W N, C) -> y (batch, W N, C); ``mix`` and ``end`` stand for what follows the scores."""
    lines, weights = [], dict(MERGE)
    for part in (PROJECTIONS[projection], SCALES[scale], BIASES[bias]):
        lines.append(part[0])
        weights |= part[1]
    return written("".join(lines) + (mix if lines[2] else mix.replace("b2", "s")) + end, opset, **weights | more)


def written(lines: str, opset=22, **weights):
    """The graph of ``lines`` that make y of the windows x (batch W, N, C)."""
    text = f"x = Reshape (image, windows)\n{lines}"
    made = graph(f"(float[batch, {T}, {C}] image) => (float[batch, {T}, {C}] y) {{ {text} }}", opset, **weights)
    read = {name for node in made.graph.node for name in node.input}
    for tensor in [t for t in made.graph.initializer if t.name not in read]:
        made.graph.initializer.remove(tensor)
    return made


def expected(image, bias=True, mask=True) -> np.ndarray:
    """What every attention here computes, in float64."""
    x = image.reshape(-1, W, N, C).astype(np.float64)
    q, k, v = ((x @ WEIGHTS[f"w{i}"] + WEIGHTS[f"b{i}"]).reshape(-1, W, N, H, D).swapaxes(2, 3) for i in "qkv")
    scores = q @ k.swapaxes(-1, -2) * SCALE + BIAS * bias + MASK[:, None] * mask
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = weights / weights.sum(-1, keepdims=True) @ v
    return mixed.swapaxes(2, 3).reshape(-1, T, E) @ MERGE["wo"] + MERGE["bo"]
