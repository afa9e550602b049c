import numpy as np
import pytest
from graphs import f32, graph, ops, rewritten

NAME = "fold_batch_normalization"
CONV = "c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w"
NORM = "BatchNormalization <epsilon = 0.001> ("
VALUES = {
    "w": f32(4, 3, 3, 3, seed=1),
    "b": f32(4, seed=2),
    "scale": f32(4, seed=3),
    "shift": f32(4, seed=4),
    "mean": f32(4, seed=5),
    "variance": np.abs(f32(4, seed=6)),
}


def net(lines, inputs="float[batch, 3, 8, 8] x", out="float[batch, 4, 8, 8] y"):
    used = {k: v for k, v in VALUES.items() if f" {k})" in lines or f" {k}," in lines}
    return graph(f"({inputs}) => ({out}) {{ {lines} }}", 22, **used)


@pytest.mark.parametrize("conv", [f"{CONV})", f"{CONV}, b)"])
def test_a_normalisation_behind_a_convolution_goes(conv):
    found = rewritten(NAME, net(f"{conv} n = {NORM}c, scale, shift, mean, variance) y = Relu (n)"), 1, close=True)
    assert ops(found) == ["Conv", "Relu"]


def test_a_grouped_convolution_and_a_normalisation_that_is_the_output():
    values = VALUES | {"w": f32(6, 1, 3, 3, seed=1)} | {k: np.abs(f32(6, seed=n)) for n, k in enumerate(
        ("scale", "shift", "mean", "variance"))}  # fmt: skip
    lines = f"c = Conv <group = 3, kernel_shape = [3, 3]> (x, w) y = {NORM}c, scale, shift, mean, variance)"
    model = graph(f"(float[batch, 3, 8, 8] x) => (float[batch, 6, 6, 6] y) {{ {lines} }}", 22,
                  **{k: v for k, v in values.items() if k != "b"})  # fmt: skip
    assert ops(rewritten(NAME, model, 1, close=True)) == ["Conv"]


FROZEN = {"m": f32(1, 4, 1, 1, seed=7), "a": f32(4, 1, 1, seed=8), "one": np.float32(1.5), "w2": f32(4, 4, 1, 1)}


@pytest.mark.parametrize("lines, matches", [
    (f"{CONV}, b) n = Mul (c, m) s = Add (a, n) y = Relu (s)", 2),
    (f"{CONV}) n = Mul (m, c) y = Relu (n)", 1),
    (f"{CONV}) s = Add (c, a) n = Mul (s, one) y = Add (n, a)", 3),
    (f"{CONV}) n = {NORM}c, scale, shift, mean, variance) s = Mul (n, m) y = Relu (s)", 2),
])  # fmt: skip
def test_a_frozen_normalisation_is_a_product_and_a_sum(lines, matches):
    values = VALUES | FROZEN
    used = {k: v for k, v in values.items() if any(f"{end}{k}{start}" in lines for end in " (" for start in "),")}
    model = graph(f"(float[batch, 3, 8, 8] x) => (float[batch, 4, 8, 8] y) {{ {lines} }}", 22, **used)
    found = rewritten(NAME, model, matches, close=True)
    assert ops(found) == (["Conv", "Relu"] if "Relu" in lines else ["Conv"])


def test_two_convolutions_of_one_weight_keep_their_own_normalisations():
    lines = f"{CONV}) n = Mul (c, m) d = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w) s = Mul (d, a) "
    model = graph(f"(float[batch, 3, 8, 8] x) => (float[batch, 4, 8, 8] y) {{ {lines} y = Sub (n, s) }}", 22,
                  w=VALUES["w"], m=FROZEN["m"], a=FROZEN["a"])  # fmt: skip
    assert ops(rewritten(NAME, model, 2, close=True)) == ["Conv", "Conv", "Sub"]


@pytest.mark.parametrize("line, values", [
    ("y = Mul (c, k)", {"k": f32(1, 1, 8, 1)}),  # by row
    ("y = Add (c, k)", {"k": f32(1, 4, 8, 8)}),  # by pixel
    ("y = Add (c, k)", {"k": f32(1, 1, 4, 1, 1)}),  # another rank
    ("y = Sub (k, c)", {"k": f32(4, 1, 1)}),
    ("y = Mul (c, c)", {}),
])  # fmt: skip
def test_what_is_no_number_for_each_channel_stays(line, values):
    out = "1, b, 4, 8, 8" if values and values["k"].ndim == 5 else "batch, 4, 8, 8"
    model = graph(f"(float[batch, 3, 8, 8] x) => (float[{out}] y) {{ {CONV}) {line} }}", 22, w=VALUES["w"], **values)
    assert ops(rewritten(NAME, model, 0)) == ops(model)


@pytest.mark.parametrize("lines, inputs", [
    (f"{CONV}) n = {NORM}c, scale, shift, mean, variance) y = Add (n, c)", "float[batch, 3, 8, 8] x"),
    (f"{CONV}) r = Relu (c) y = {NORM}r, scale, shift, mean, variance)", "float[batch, 3, 8, 8] x"),
    (f"{CONV}) y = {NORM}c, scale, shift, mean, variance)", "float[batch, 3, 8, 8] x, float[4] scale"),
])  # fmt: skip
def test_what_looks_alike_stays(lines, inputs):
    model = net(lines, inputs)
    if "scale" in inputs:
        model.graph.initializer.remove(next(t for t in model.graph.initializer if t.name == "scale"))
    before = ops(model)
    assert ops(rewritten(NAME, model, 0)) == before
