"""Attention of 2 heads of 4 features on 5 tokens, its three projections behind one normalisation of 8 channels."""

import contextlib

import numpy as np
import pytest
from graphs import apply, cast, f32, feed, graph, i64, initializer, ops, rewritten, run, tiny_recipe, twin
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from exporter import rewriting
from exporter.errors import CheckFailed
from exporter.rewrites import absorb_query_biases
from exporter.rewrites.absorb_query_biases import SHIFTS
from exporter.surgery import Numbers
from exporter.types import RewriteStep

NAME = "absorb_query_biases"
NORM = "n = LayerNormalization <axis = -1> (x, g, s)"
PROJECT = "q0 = MatMul (n, wq) q1 = Add (q0, bq) k1 = MatMul (n, wk) v1 = MatMul (n, wv)"
ATTEND = (
    "q2 = Reshape (q1, split) k2 = Reshape (k1, split) v2 = Reshape (v1, split) "
    "q = Transpose <perm = [0, 2, 1, 3]> (q2) kt = Transpose <perm = [0, 2, 3, 1]> (k2) "
    "v = Transpose <perm = [0, 2, 1, 3]> (v2) a = MatMul (q, kt) p = Softmax <axis = -1> (a) m = MatMul (p, v) "
    "m1 = Transpose <perm = [0, 2, 1, 3]> (m) y = Reshape (m1, join)"
)
WEIGHTS = {
    "g": f32(8) + 2, "s": f32(8, seed=1), "wq": f32(8, 8, seed=2), "wk": f32(8, 8, seed=3), "wv": f32(8, 8, seed=4),
    "bq": f32(8, seed=5), "bk": f32(8, seed=6), "bv": f32(8, seed=7), "split": i64(0, 0, 2, 4), "join": i64(0, 0, 8),
    "some": i64(3, 1, 4, 0, 2), "pads": i64(0, 0, 0, 0, 1, 0), "wide": f32(8, 24, seed=8), "wb": f32(24, seed=9),
    "flat": i64(-1, 8), "back": i64(-1, 5, 8),
}  # fmt: skip


def attention(*lines, norm=NORM, project=PROJECT, out="float[batch, 5, 8] y", opset=22, **weights):
    text = " ".join((norm, *lines, project, ATTEND))
    words = set(text.replace(",", " ").replace("(", " ").replace(")", " ").split())
    used = {k: v for k, v in (WEIGHTS | weights).items() if k in words}
    return graph(f"(float[batch, 5, 8] x) => ({out}) {{ {text} }}", opset, **used)


def wide(features, heads, seed, size):
    """The same of a larger width, with a bias of a size, scaled as trained networks are."""
    width, rng = features * heads, np.random.default_rng(seed)
    drawn = {name: rng.standard_normal((width, width)).astype(np.float32) / width**0.5 for name in ("wq", "wk", "wv")}
    return graph(
        f"(float[batch, 5, {width}] x) => (float[batch, 5, {width}] y) {{ {NORM} {PROJECT} {ATTEND} }}",
        g=np.ones(width, np.float32), s=np.zeros(width, np.float32), **drawn,
        bq=(size * rng.standard_normal(width)).astype(np.float32),
        split=i64(0, 0, heads, features), join=i64(0, 0, width),
    )  # fmt: skip


def norm_of(model):
    (node,) = [n for n in model.graph.node if n.op_type == "LayerNormalization"]
    return [initializer(model, name) for name in node.input[1:]]


@pytest.mark.parametrize("opset", [17, 22])
def test_the_queries_lose_their_bias(opset):
    after = rewritten(NAME, attention(opset=opset), 1, close=True)
    assert "Add" not in ops(after)
    scale, shift = norm_of(after)
    assert (scale == 1).all() and shift[0] in SHIFTS and (shift == shift[0]).all()


def test_keys_and_values_may_have_one_too():
    project = "q0 = MatMul (n, wq) q1 = Add (q0, bq) k0 = MatMul (n, wk) k1 = Add (bk, k0) v0 = MatMul (n, wv) " \
        "v1 = Add (v0, bv)"  # fmt: skip
    assert "Add" not in ops(rewritten(NAME, attention(project=project), 1, close=True))


@pytest.mark.parametrize("norm", [
    NORM.replace("axis = -1", "axis = 2"), NORM.replace(", s)", ")"), NORM.replace("axis = -1", "epsilon = 0.1"),
])  # fmt: skip
def test_however_the_normalisation_is_written(norm):
    after = rewritten(NAME, attention(norm=norm), 1, close=True)
    assert "Add" not in ops(after) and len(norm_of(after)) == 2


@pytest.mark.parametrize("shape", [(1, 8), (1, 1, 8), (1,)])
def test_scale_and_shift_of_another_shape(shape):
    after = rewritten(NAME, attention(g=f32(*shape) + 2, s=f32(*shape, seed=1)), 1, close=True)
    assert [v.shape for v in norm_of(after)] == [(8,), (8,)]


def test_a_shift_that_is_left_out_by_its_name():
    model = attention(norm=NORM.replace(", s)", ")"))
    model.graph.node[0].input.append("")
    assert "Add" not in ops(rewritten(NAME, model, 1, close=True))


def test_nodes_without_names():
    model = attention()
    for node in model.graph.node:
        node.name = ""
    before, after = model, apply(NAME, model)[1]
    feeds = feed(model, 3)
    expected = run(before, feeds)["y"]
    assert np.abs(run(after, feeds)["y"] - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("lines", [
    ("n = Gather <axis = 1> (l, some)",),
    ("f = Reshape (l, flat) n = Reshape (f, back)",),
    ("t = Transpose <perm = [1, 0, 2]> (l) n = Transpose <perm = [1, 0, 2]> (t)",),
])  # fmt: skip
def test_rows_may_be_moved_in_between(lines):
    after = rewritten(NAME, attention(*lines, norm=NORM.replace("n = ", "l = ")), 1, close=True)
    assert "Add" not in ops(after)


def test_a_projection_of_all_three():
    project = "a0 = MatMul (n, wide) a1 = Add (a0, wb) q1, k1, v1 = Split <axis = 2, num_outputs = 3> (a1)"
    assert "Add" not in ops(rewritten(NAME, attention(project=project), 1, close=True))


def test_the_weight_carries_the_bias_and_nothing_of_the_mean():
    after = rewritten(NAME, attention(), 1, close=True)
    name = next(n.input[1] for n in after.graph.node if n.op_type == "MatMul" and n.output[0] == "q0")
    wanted = WEIGHTS["bq"] + WEIGHTS["s"] @ WEIGHTS["wq"]
    # the same vector in every row of a weight whose columns add up to nothing
    assert initializer(after, name).sum(0) * norm_of(after)[1][0] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("size, kept", [(0.1, 0.125), (0.5, 0.25), (2, 0.5)])
def test_a_large_bias_takes_a_larger_shift(size, kept):
    after = rewritten(NAME, wide(16, 4, 0, size), 1, close=True)
    assert (norm_of(after)[1] == kept).all()


def test_massive_channels_are_left_alone_which_the_count_does_not_mind(monkeypatch):
    """Two channels of +-1000 in front of the normalisation, whose scale makes up for what is left of the others."""
    model, why = massive(), {}
    assert apply(NAME, model, refused=why)[0] == 0
    (says,) = why.values()
    assert isinstance(says, Numbers) and "times as large" in says
    for due in (1, 0):
        recipe = tiny_recipe(rewrites=(RewriteStep(NAME, due),))
        with contextlib.nullcontext() if due else pytest.raises(CheckFailed):
            assert rewriting.rewrite(model, recipe)[1][0].matches == 0
    monkeypatch.setattr(absorb_query_biases, "GROWTH", np.inf)
    after, feeds = apply(NAME, model)[1], feed(model, 3)
    exact = run(model, feeds)["y"]
    before, behind = (np.square(twin(cast(m, "fp16").model, feeds)["y"] - exact).mean() for m in (model, after))
    assert behind > 4 * before  # what it is spared from: an error more than twice as large


@pytest.mark.parametrize("shape", [(1, 64), (1, 1, 64)])
def test_massive_channels_are_seen_whatever_shape_the_scale_has(shape):
    model = massive()
    scale = next(t for t in model.graph.initializer if t.name == "g")
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale).reshape(shape), "g"))
    assert apply(NAME, model)[0] == 0


def test_what_noise_takes_out_of_fp32_is_left_alone():
    model, why = massive(), {}
    model.graph.node[0].op_type, model.graph.node[0].input[:] = "Sqrt", ["x"]
    assert apply(NAME, model, refused=why)[0] == 0 and "cannot be told" in "".join(why.values())


def massive():
    model = wide(16, 4, 0, 0.5)
    offset, scale = np.zeros(64, np.float32), np.full(64, 170.0, np.float32)
    offset[[5, 40]], scale[[5, 40]] = (1000, -1000), 0.01
    for name, values in (("g", scale), ("o", offset)):
        tensor = next((t for t in model.graph.initializer if t.name == name), None) or model.graph.initializer.add()
        tensor.CopyFrom(numpy_helper.from_array(values, name))
    model.graph.node.insert(0, helper.make_node("Add", ["x", "o"], ["r"], "blocks.0/Add_o"))
    model.graph.node[1].input[0] = "r"
    return model


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_sixteen_bits_lose_nothing_by_it(precision):
    """The error of the numerics twin over four networks of 64 channels, before and after."""
    errors = []
    for seed in range(4):
        model = wide(16, 4, seed, 1.0)
        after, feeds = apply(NAME, model)[1], feed(model, 3)
        exact = run(model, feeds)["y"]
        errors.append([np.square(twin(cast(m, precision).model, feeds)["y"] - exact).mean() for m in (model, after)])
    before, behind = np.sqrt(np.mean(errors, 0))
    assert before > 1e-5 and behind <= 1.25 * before


REFUSED = {
    "a residual reads the normalisation": (
        {"project": PROJECT + " z = Relu (n)", "out": "float[batch, 5, 8] y, float[batch, 5, 8] z"}, ""),
    "another layer reads it": (
        {"project": PROJECT + " z = MatMul (n, wide)", "out": "float[batch, 5, 8] y, float[batch, 5, 24] z"},
        "something else reads it"),
    "it is an output": ({"out": "float[batch, 5, 8] y, float[batch, 5, 8] n"}, ""),
    "rows of zeros": (
        {"norm": NORM.replace("n = ", "l = ") + " n0 = Pad (l, pads) n = Slice (n0, from, to, axis)",
         "from": i64(1), "to": i64(6), "axis": i64(1)}, ""),
    "no bias": ({"project": PROJECT.replace("q0 = MatMul (n, wq) q1 = Add (q0, bq)", "q1 = MatMul (n, wq)")}, ""),
    "a bias larger than the weight": ({"bq": 20 * f32(8, seed=5)}, "times as large"),
    "a weight without end": ({"wk": np.full((8, 8), np.inf, np.float32)}, "not finite"),
    "a bias that is no number": ({"bq": np.full(8, np.nan, np.float32)}, "not finite"),
    "a weight of zeros": ({name: np.zeros((8, 8), np.float32) for name in ("wq", "wk", "wv")}, "times as large"),
    "a bias that adds an axis": (
        {"bq": f32(1, 1, 1, 8, seed=5), "split": i64(-1, 5, 2, 4),
         "out": "float[batch, 5, 8] y, float[1, batch, 5, 8] q1"}, "adds an axis"),
    "a weight near FP16's limit": ({"wk": 2e4 * f32(8, 8, seed=3)}, "near FP16's limit"),
    "all tokens normalised at once": (
        {"norm": NORM.replace("axis = -1", "axis = 1"), "g": f32(5, 8) + 2, "s": f32(5, 8, seed=1)},
        "the channels of each token"),
    "all tokens normalised at once, with one scale": (
        {"norm": NORM.replace("axis = -1", "axis = 1")}, "the channels of each token"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_looks_alike_stays(case):
    changed, says = REFUSED[case]
    model, why = attention(**changed), {}
    matches, after = apply(NAME, model, refused=why)
    assert matches == 0 and sorted(ops(after)) == sorted(ops(model))
    assert says in "".join(why.values()) and bool(says) == bool(why)


@settings(max_examples=30, deadline=None)
@given(st.integers(16, 40), st.integers(1, 4), st.integers(0, 10**6), st.floats(0.01, 1))
def test_any_width_and_any_bias(features, heads, seed, size):
    model = wide(features, heads, seed, size)
    matches, after = apply(NAME, model)
    before = run(model, feed(model, 3))["y"]
    assert np.abs(run(after, feed(after, 3))["y"] - before).max() <= 1e-5 * max(1, size) * np.abs(before).max()
    assert matches == 1


@pytest.mark.parametrize("size", [0.0, 0.1, 30.0])
def test_the_growth_of_an_error_multiplied_out_is_that_of_the_weights(size):
    """``size``: how large the bias is beside the weight."""
    rng = np.random.default_rng(0)
    weight, share, spread = rng.standard_normal((16, 6)), size * rng.standard_normal(6), rng.uniform(0, 2, 16)
    centred = weight - weight.mean(0)
    found = absorb_query_biases._growths(weight, centred, share, spread)
    old = (np.square(spread)[:, None] * np.square(weight)).sum()
    new = [((np.square(spread) + t * t)[:, None] * np.square(centred + share / t)).sum() for t in SHIFTS]
    np.testing.assert_allclose(found, np.sqrt(new / old), rtol=1e-12)
