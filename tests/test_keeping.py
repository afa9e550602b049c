import numpy as np
import onnx
import pytest
from graphs import between, cast, feed, graph, i64, initializer, run, twin, types
from onnx import numpy_helper

both = pytest.mark.parametrize("precision", ["fp16", "bf16"])
LOWEST = float(np.finfo(np.float32).min)


NORM = """(float[batch, 64] x) => (float[batch, 64] y) {{
    h = MatMul (x, w)
    mean = ReduceMean <axes = [-1]> (h)
    d = Sub (h, mean)
    {square}
    {variance}
    e = Add (var, eps)
    s = Sqrt (e)
    y = Div (d, s)
}}"""


SQUARES = {"Pow": "q = Pow (d, two)", "Mul": "q = Mul (d, d)"}


VARIANCES = {
    "mean": ("var = ReduceMean <axes = [-1]> (q)", ["q", "var", "e", "s"]),
    "sum, then one step": (
        "sum = ReduceSum (q, last)\n var = Div (sum, count)",
        ["q", "sum", "var", "e", "s"],
    ),
    "mean, then two steps": (
        "m = ReduceMean <axes = [-1]> (q)\n t = Mul (m, count)\n var = Div (t, less)",
        ["q", "m", "t", "var", "e", "s"],
    ),
    "mean, then moved": (
        "m = ReduceMean <axes = [-1], keepdims = 0> (q)\n var = Unsqueeze (m, last)",
        ["q", "m", "var", "e", "s"],
    ),
}


def norm(square, variance, eps):
    return graph(
        NORM.format(square=SQUARES[square], variance=VARIANCES[variance][0]),
        opset=17,
        w=np.eye(64, dtype=np.float32),
        two=np.float32(2),
        eps=np.float32(eps),
        last=i64(-1),
        count=np.float32(64),
        less=np.float32(63),
    )


@pytest.mark.parametrize("eps", [1e-5, 1e-2])
@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("square", SQUARES)
def test_a_decomposed_layer_norm_does_not_overflow(square, variance, eps):
    model = norm(square, variance, eps)
    x = 1000 * feed(model, 3)["x"]
    typed = cast(model)
    kinds = types(typed.model)
    assert {name: kinds[name] for name in VARIANCES[variance][1]} == dict.fromkeys(VARIANCES[variance][1], "FLOAT")
    want = run(model, {"x": x})["y"]
    got = twin(typed.model, {"x": x})["y"]
    np.testing.assert_allclose(got, want, atol=0.01)  # values up to 3, a handful of FP16 roundings of 2**-11


@pytest.mark.parametrize("square", SQUARES)
def test_the_same_layer_norm_would_overflow_if_everything_were_cast(square):
    model = norm(square, "mean", 1e-2)
    x = 1000 * feed(model, 3)["x"]
    typed = cast(model, keep_fp32=frozenset())
    assert types(typed.model)["q"] == "FLOAT16"
    assert np.abs(run(model, {"x": x})["y"]).max() > 1
    assert not np.abs(twin(typed.model, {"x": x})["y"]).max() > 0  # divided by the root of inf


def test_bf16_keeps_the_same_sums_in_fp32():
    typed = cast(norm("Pow", "mean", 1e-5), "bf16")
    kinds = types(typed.model)
    assert {kinds[n] for n in ("mean", "q", "var")} == {"FLOAT"} and kinds["h"] == "BFLOAT16"


def test_an_elementwise_step_that_leaves_the_sums_is_narrow_again():
    typed = cast(between("n = Neg (a)\n q = Exp (n)\n r = Mul (q, c)\n b = Add (r, c)", c=np.float32(0.5)))
    kinds = types(typed.model)
    assert (kinds["n"], kinds["q"], kinds["r"], kinds["b"]) == ("FLOAT16", "FLOAT", "FLOAT16", "FLOAT16")
    assert list(typed.kept.values()) == ["Exp sums or powers in FP32"]


@pytest.mark.parametrize(
    "value, kept",
    [
        (LOWEST, True),
        (1e5, True),
        (65504, False),
        (-65505, True),
        (1e-12, True),
        (1e-5, True),
        (1e-4, False),
        (0, False),
        (-np.inf, False),
        (1, False),
    ],
)
@pytest.mark.parametrize("op", ["Add", "Mul", "Div", "Max", "Where"])
def test_a_constant_that_fp16_does_not_have_keeps_its_node_in_fp32(op, value, kept):
    line = "b = Where (yes, a, c)" if op == "Where" else f"b = {op} (a, c)"
    typed = cast(between(line, c=np.float32(value), yes=np.array([True, False, True, True])))
    assert (types(typed.model)["b"] == "FLOAT") is kept
    assert list(typed.kept) == ([f"blocks.0/{op}_1"] if kept else [])
    assert all("constant" in why for why in typed.kept.values())


@both
@pytest.mark.parametrize("value", [LOWEST, -3.4e38, 3.4e38])
def test_the_largest_fp32_numbers_do_not_become_infinite(value, precision):
    """BF16 ends at 3.39e38, a little below FP32."""
    typed = cast(between("b = Min (a, c)", c=np.float32(value)), precision)
    for tensor in typed.model.graph.initializer:
        assert np.isfinite(numpy_helper.to_array(tensor).astype(np.float32)).all(), tensor.name


@pytest.mark.parametrize("values, narrow", [([1e-12, 1, 2, 3], [0, 1, 2, 3]), ([2**-20] * 4, [2**-20] * 4)])
def test_small_numbers_inside_a_weight_are_rounded_and_keep_nothing(values, narrow):
    """A layer scale may be small all over; only a scalar is taken for a guard."""
    typed = cast(between("b = Mul (a, c)", c=np.array(values, np.float32)))
    assert typed.kept == {} and initializer(typed.model, "c/FLOAT16").tolist() == narrow


def test_a_weight_beyond_the_range_keeps_its_product_in_fp32():
    typed = cast(between("b = MatMul (a, big)", big=np.full((4, 4), 7e4, np.float32)))
    assert list(typed.kept) == ["blocks.0/MatMul_1"] and types(typed.model)["big"] == "FLOAT"


MASKS = {
    "as it is": "masked = Add (a, low)",
    "unsqueezed": "m = Unsqueeze (low, zero)\n masked = Add (a, m)",
    "expanded": "s = Shape (a)\n m = Expand (low, s)\n masked = Add (a, m)",
    "concatenated": "m = Concat <axis = 0> (two, two)\n masked = Add (a, m)",
    "chosen": "yes = Greater (a, lowest)\n m = Where (yes, lowest, nought)\n masked = Add (a, m)",
    "put in": "yes = Greater (a, lowest)\n masked = Where (yes, lowest, a)",
    "filled": f"s = Shape (a)\n m = ConstantOfShape <value = float[1] {{{LOWEST}}}> (s)\n masked = Add (a, m)",
}


@both
@pytest.mark.parametrize("case", MASKS)
def test_a_row_that_is_masked_altogether_is_not_nan(case, precision):
    """Scores that are all -3.4e38 are equal; that many -inf are NaN."""
    low = np.full(4, LOWEST, np.float32)
    model = between(
        f"{MASKS[case]}\n b = Softmax <axis = -1> (masked)",
        low=low,
        two=low[:2],
        zero=i64(0),
        nought=np.float32(0),
        lowest=np.float32(LOWEST),
    )
    feeds = feed(model, 3)
    got = twin(cast(model, precision).model, feeds)["y"]
    np.testing.assert_allclose(got, run(model, feeds)["y"], atol=1e-3)  # 1/4, exact in either type


def test_a_guard_against_division_by_zero_guards():
    """x / max(|x|, 1e-12), as torch normalises: 0 for a row of zeros, not 0 / 0."""
    model = between(
        "l = ReduceL2 <keepdims = 1> (a, last)\n g = Max (l, tiny)\n b = Div (a, g)",
        last=i64(-1),
        tiny=np.float32(1e-12),
    )
    x = np.array([[0, 0, 0, 0], [1, 2, 2, 4]], np.float32)
    np.testing.assert_allclose(twin(cast(model).model, {"x": x})["y"], run(model, {"x": x})["y"], atol=1e-3)  # 2**-11


def test_an_fp16_mask_of_minus_infinity_stays_one():
    model = between("b = Add (a, c)", c=np.array([0, -np.inf, 0, 0], np.float32))
    typed = cast(model)
    assert typed.kept == {} and initializer(typed.model, "c/FLOAT16").tolist() == [0, -np.inf, 0, 0]


def test_integer_operators_are_not_said_to_compute_in_fp32():
    model = between(
        "r = Range (zero, four, one)\n q = Mul (r, r)\n"
        " s = ReduceSum <keepdims = 0> (q)\n f = Cast <to = 1> (s)\n"
        " b = Add (a, f)",
        zero=np.array(0),
        one=np.array(1),
        four=np.array(4),
    )
    assert cast(model).kept == {}


def test_what_is_moved_keeps_the_type_that_it_had():
    """Between two sums nothing is rounded by a Reshape or a Concat."""
    model = between(
        "p = Exp (a)\n r = Reshape (p, shape)\n t = Transpose <perm = [1, 0]> (r)\n q = Log (t)\n"
        " v = Transpose <perm = [1, 0]> (q)\n b = Reshape (v, shape)",
        shape=i64(-1, 4),
    )
    kinds = types(cast(model).model)
    assert {kinds[n] for n in "prtqvb"} == {"FLOAT"}


@pytest.mark.parametrize("precision, reason", [("fp16", "sums"), ("bf16", "sums")])
def test_what_is_kept_is_reported_with_the_reason(precision, reason):
    model = between(
        "m = ReduceMean <keepdims = 1> (a, last)\n q = Mul (a, a)\n s = Add (m, c)\n r = Sqrt (s)\n b = Add (q, r)",
        last=i64(-1),
        c=np.float32(0.5),
    )
    kept = cast(model, precision).kept
    assert kept == {
        "blocks.0/ReduceMean_1": "ReduceMean sums or powers in FP32",
        "blocks.0/Mul_2": "a square in FP32",
        "blocks.0/Add_3": "between two nodes in FP32",
        "blocks.0/Sqrt_4": "Sqrt sums or powers in FP32",
    }


@both
def test_the_nearest_of_near_values_is_told_in_fp32(precision):
    """Colours that a narrow type cannot tell apart, as iGPT's clusters are looked for."""
    colours = np.array([[0.5], [0.5 + 2**-12]], np.float32)
    model = graph(
        """(float[batch, 1, 1] x) => (int64[batch] y) {
            d = Sub (x, colours)
            s = Mul (d, d)
            f = Squeeze (s, last)
            y = ArgMin <axis = 1, keepdims = 0> (f)
        }""",
        colours=colours,
        last=i64(-1),
    )
    x = np.array([0.5 + 2**-14, 0.5 + 2**-12 - 2**-14], np.float32).reshape(2, 1, 1)
    feeds = {"x": x}
    assert twin(cast(model, precision).model, feeds)["y"].tolist() == run(model, feeds)["y"].tolist() == [0, 1]


@both
def test_an_operator_that_onnx_does_not_define_for_the_type_stays_in_fp32(precision):
    text = """(float[batch, 4, 8] x) => (float[batch, 4, 6] y) {
        h = MatMul (x, w)
        y = Einsum <equation = "bij,jk->bik"> (h, table)
    }"""
    rng = np.random.default_rng(0)
    table = rng.standard_normal((8, 6)).astype(np.float32)
    model = graph(text, w=rng.standard_normal((8, 8)).astype(np.float32), table=table)
    typed = cast(model, precision)
    onnx.checker.check_model(typed.model, full_check=True)
    narrow = {"fp16": "FLOAT16", "bf16": "BFLOAT16"}[precision]
    assert types(typed.model)["h"] == narrow
    kept = {why for name, why in typed.kept.items() if "Einsum" in why}
    assert kept == (set() if precision == "fp16" else {"ONNX defines no Einsum of bfloat16"})
