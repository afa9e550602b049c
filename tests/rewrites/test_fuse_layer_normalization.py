import re

import numpy as np
import pytest
from graphs import f32, graph, i64, ops, rewritten, with_outputs

NAME = "fuse_layer_normalization"
STEPS = """mean = ReduceMean <keepdims = 1> (x, axes)
    c = Sub (x, mean)
    sq = Pow (c, two)
    var = ReduceMean <keepdims = 1> (sq, axes)
    ve = Add (var, eps)
    r = Sqrt (ve)
    d = Div (c, r)
    """
AFFINE = "m = Mul (d, w)\n y = Add (m, b)"


def norm(steps=STEPS, affine=AFFINE, out="batch, 5, 6", opset=22, **weights):
    text = f"{{ {steps}{affine} }}"
    if opset < 18:
        text = text.replace("<keepdims = 1> (x, axes)", "<axes = [-1], keepdims = 1> (x)")
        text = text.replace("<keepdims = 1> (sq, axes)", "<axes = [2], keepdims = 1> (sq)")
    values = {
        "axes": i64(-1),
        "two": np.float32(2),
        "eps": np.float32(1e-5),
        "w": f32(6),
        "b": f32(6, seed=1),
    } | weights
    used = {k: v for k, v in values.items() if f" {k})" in text or f"({k}," in text or f" {k}," in text}
    return graph(f"(float[batch, 5, 6] x) => (float[{out}] y) {text}", opset, **used)


def constants(model):
    return next(node for node in model.graph.node if node.op_type == "LayerNormalization")


FOUND = {
    "Pow": (STEPS, AFFINE),
    "a square": (STEPS.replace("Pow (c, two)", "Mul (c, c)"), AFFINE),
    "epsilon first": (STEPS.replace("Add (var, eps)", "Add (eps, var)"), AFFINE),
    "scale and shift first": (STEPS, "m = Mul (w, d)\n y = Add (b, m)"),
}


@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize("case", FOUND)
def test_a_normalisation_becomes_one_operator(case, opset):
    after = rewritten(NAME, norm(*FOUND[case], opset=opset), 1, close=True)
    assert ops(after) == ["LayerNormalization"] and len(constants(after).input) == 3


@pytest.mark.parametrize(
    "affine, inputs, left",
    [
        ("y = Exp (d)", 2, ["Exp"]),
        ("m = Mul (d, w)\n y = Exp (m)", 2, ["Exp"]),
        ("a = Add (d, b)\n y = Exp (a)", 3, ["Exp"]),
        ("a = Add (d, b)\n y = Mul (a, w)", 3, ["Mul"]),
        ("m = Mul (d, half)\n y = Exp (m)", 2, ["Mul", "Exp"]),
        ("m = Mul (d, rows)\n y = Exp (m)", 2, ["Mul", "Exp"]),
        ("m = Mul (d, x)\n y = Exp (m)", 2, ["Mul", "Exp"]),
        ("m = Mul (d, w)\n e = Exp (d)\n y = Add (m, e)", 2, ["Mul", "Exp", "Add"]),
    ],
)
def test_scale_and_shift_belong_to_it_where_they_are_one_number_a_column(affine, inputs, left):
    after = rewritten(NAME, norm(affine=affine, half=np.float32(0.5), rows=f32(5, 1)), 1, close=True)
    assert ops(after) == ["LayerNormalization", *left] and len(constants(after).input) == inputs


def test_a_scale_of_a_larger_rank_is_none():
    after = rewritten(
        NAME,
        norm(affine="m = Mul (d, w4)\n y = ReduceSum <keepdims = 0> (m, zero)", zero=i64(0), w4=f32(1, 1, 1, 6)),
        1,
        close=True,
    )
    assert "Mul" in ops(after)


def test_one_column():
    """A number is a column there, and the deviation is zero."""
    text = STEPS + "m = Mul (d, half)\n y = Add (m, half)"
    model = graph(
        f"(float[batch, 5, 1] x) => (float[batch, 5, 1] y) {{ {text} }}",
        axes=i64(-1),
        two=np.float32(2),
        eps=np.float32(1e-5),
        half=np.float32(0.5),
    )
    rewritten(NAME, model, 1, close=True)


def test_epsilon_is_kept():
    after = rewritten(NAME, norm(eps=np.float32(0.1)), 1, close=True)
    attributes = {a.name: a for a in constants(after).attribute}
    assert attributes["epsilon"].f == pytest.approx(0.1) and attributes["stash_type"].i == 1


REFUSED = {
    "other axes": {"axes": i64(1)},
    "two axes": {"axes": i64(1, 2)},
    "the third power": {"two": np.float32(3)},
    "an epsilon for each column": {"eps": np.abs(f32(6))},
    "no epsilon": {"steps": STEPS.replace("Add (var, eps)", "Abs (var)")},
    "epsilon taken away": {"steps": STEPS.replace("Add (var, eps)", "Sub (var, eps)"), "eps": np.float32(-1e-5)},
    "epsilon after the root": {
        "steps": STEPS.replace("ve = Add (var, eps)\n    r = Sqrt (ve)", "ve = Sqrt (var)\n r = Add (ve, eps)")
    },
    "the mean minus x": {"steps": STEPS.replace("Sub (x, mean)", "Sub (mean, x)")},
    "the variance of something else": {"steps": STEPS.replace("Pow (c, two)", "Pow (x, two)")},
    "the mean of something else": {
        "steps": "e = Abs (x)\n" + STEPS.replace("<keepdims = 1> (x, axes)", "<keepdims = 1> (e, axes)")
    },
    "x that is not centred": {"steps": STEPS.replace("Div (c, r)", "Div (x, r)")},
    "a largest value for the mean": {"steps": STEPS.replace("mean = ReduceMean", "mean = ReduceMax")},
    "two different products": {"steps": STEPS.replace("Pow (c, two)", "Mul (c, x)")},
    "no scale by the root": {"steps": STEPS.replace("Div (c, r)", "Mul (c, r)")},
    "root mean square": {"steps": "c = Exp (x)\n" + STEPS.split("\n", 2)[2]},
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    model = norm(**REFUSED[case])
    assert sorted(ops(rewritten(NAME, model, 0))) == sorted(ops(model))


@pytest.mark.parametrize("name", ["mean", "c", "sq", "var", "ve", "r"])
def test_refused_steps_that_something_else_reads(name):
    model = norm(affine=f"m = Mul (d, w)\n e = Exp ({name})\n y = Add (m, e)")
    assert sorted(ops(rewritten(NAME, model, 0))) == sorted(ops(model))


@pytest.mark.parametrize("name", ["mean", "c", "var"])
def test_refused_steps_that_are_outputs(name):
    model = with_outputs(norm(), name)
    assert sorted(ops(rewritten(NAME, model, 0))) == sorted(ops(model))


def test_a_normalised_tensor_that_is_an_output_is_not_scaled():
    after = rewritten(NAME, with_outputs(norm(), "d"), 1, close=True)
    assert sorted(ops(after)) == ["Add", "LayerNormalization", "Mul"]


def test_refused_means_without_the_axis():
    steps = STEPS.replace("<keepdims = 1> (sq, axes)", "<keepdims = 0> (sq, axes)").replace(
        "ve = Add (var, eps)", "vu = Unsqueeze (var, axes)\n ve = Add (vu, eps)"
    )
    model = norm(steps)
    assert sorted(ops(rewritten(NAME, model, 0))) == sorted(ops(model))


def test_refused_below_opset_17():
    model = norm(opset=17)
    model.opset_import[0].version = 16
    assert sorted(ops(rewritten(NAME, model, 0))) == sorted(ops(model))


def test_one_after_the_other():
    again = re.sub(r"\b(mean|c|sq|var|ve|r|d)\b", r"\1_", STEPS.replace("(x,", "(d,")).replace("d_,", "d,")
    after = rewritten(NAME, norm(STEPS + again, "y = Exp (d_)"), 2, close=True)
    assert ops(after) == ["LayerNormalization", "LayerNormalization", "Exp"]


def test_nothing_to_find():
    model = graph("(float[batch, 4] x) => (float[batch, 4] y) { y = Div (x, x) }")
    assert ops(rewritten(NAME, model, 0)) == ["Div"]
