from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx
import pytest
from graphs import f32, feed, graph, i64, initializer, ops, run, types
from onnx import numpy_helper

from exporter import casting, numerics, onnxio, registry
from exporter.errors import UsageError

NARROW = {"fp16": "FLOAT16", "bf16": "BFLOAT16"}
LOWEST = float(np.finfo(np.float32).min)
both = pytest.mark.parametrize("precision", ["fp16", "bf16"])
opsets = pytest.mark.parametrize("opset", [17, 22])


def cast(model, precision="fp16", io="fp32", **fields):
    """The typed graph, which has passed the checker: strongly typed, with node names of its own."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    typed = casting.cast(copy, replace(registry.precision(precision), **fields), io)
    onnxio.check(typed.model)
    names = [n.name for n in typed.model.graph.node]
    assert len(set(names)) == len(names)
    assert ops(typed.model).count("Cast") == ops(model).count("Cast") + typed.casts
    return typed


def twin(typed, feeds):
    return run(numerics.twin(typed.model), feeds)


def between(lines, **weights):
    """x -> MatMul -> a -> the lines -> b -> MatMul -> y: what surrounds the lines is in the narrow type."""
    return graph(
        f"(float[batch, 4] x) => (float[batch, 4] y) {{ a = MatMul (x, w)\n {lines}\n y = MatMul (b, w) }}",
        w=np.eye(4, dtype=np.float32),
        **weights,
    )


@opsets
@both
def test_every_tensor_of_a_block_gets_the_type(precision, opset):
    model = graph(
        """(float[batch, 4, 8] x) => (float[batch, 4, 8] y) {
            n = LayerNormalization <axis = -1, epsilon = 0.000001> (x, gain, shift)
            h = MatMul (n, w)
            t = Transpose <perm = [0, 2, 1]> (h)
            s = MatMul (h, t)
            scaled = Mul (s, scale)
            p = Softmax <axis = -1> (scaled)
            v = MatMul (p, h)
            e = Erf (v)
            g = Sigmoid (e)
            r = Reshape (g, shape)
            y = Add (r, x)
        }""",
        opset=opset,
        gain=f32(8),
        shift=f32(8),
        w=f32(8, 8),
        scale=np.float32(0.25),
        shape=i64(0, 4, 8),
    )
    typed = cast(model, precision)
    kinds = types(typed.model)
    wide = {name for name, kind in kinds.items() if kind == "FLOAT"}
    assert wide == {"x", "y"} and typed.kept == {}
    assert kinds["shape"] == "INT64" and typed.casts == 2
    assert len(kinds) == len(types(model)) + 2


@both
def test_softmax_and_layer_normalization_stay_in_the_type(precision):
    model = graph(
        "(float[batch, 8] x) => (float[batch, 8] y) { n = LayerNormalization (x, gain)\n y = Softmax (n) }",
        gain=f32(8),
    )
    typed = cast(model, precision, io=precision)
    assert ops(typed.model) == ["LayerNormalization", "Softmax"]
    assert set(types(typed.model).values()) == {NARROW[precision]}


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
@pytest.mark.parametrize("io", ["fp32", "fp16"])
def test_precisions_of_fp32_storage_leave_the_graph(precision, io):
    model = between("b = Exp (a)")
    typed = cast(model, precision, io)
    assert typed.model == model and typed.casts == 0 and typed.kept == {}


@pytest.mark.parametrize("io", ["fp32", "fp16"])
@both
def test_io_is_the_type_at_the_boundary(precision, io):
    model = graph(
        "(float[batch, 4] x, int64[batch] i) => (float[n, 4] y, int64[batch] j) { y = Gather (x, i)\n j = Neg (i) }"
    )
    typed = cast(model, precision, io)
    outer = "FLOAT" if io == "fp32" else NARROW[precision]
    kinds = types(typed.model)
    assert (kinds["x"], kinds["y"], kinds["i"], kinds["j"]) == (outer, outer, "INT64", "INT64")
    assert [v.name for v in typed.model.graph.input] == ["x", "i"]
    assert [v.name for v in typed.model.graph.output] == ["y", "j"]


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
    got = twin(typed, {"x": x})["y"]
    np.testing.assert_allclose(got, want, atol=0.01)  # values up to 3, a handful of FP16 roundings of 2**-11


@pytest.mark.parametrize("square", SQUARES)
def test_the_same_layer_norm_would_overflow_if_everything_were_cast(square):
    model = norm(square, "mean", 1e-2)
    x = 1000 * feed(model, 3)["x"]
    typed = cast(model, keep_fp32=frozenset())
    assert types(typed.model)["q"] == "FLOAT16"
    assert np.abs(run(model, {"x": x})["y"]).max() > 1
    assert not np.abs(twin(typed, {"x": x})["y"]).max() > 0  # divided by the root of inf


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
    got = twin(cast(model, precision), feeds)["y"]
    np.testing.assert_allclose(got, run(model, feeds)["y"], atol=1e-3)  # 1/4, exact in either type


def test_a_guard_against_division_by_zero_guards():
    """x / max(|x|, 1e-12), as torch normalises: 0 for a row of zeros, not 0 / 0."""
    model = between(
        "l = ReduceL2 <keepdims = 1> (a, last)\n g = Max (l, tiny)\n b = Div (a, g)",
        last=i64(-1),
        tiny=np.float32(1e-12),
    )
    x = np.array([[0, 0, 0, 0], [1, 2, 2, 4]], np.float32)
    np.testing.assert_allclose(twin(cast(model), {"x": x})["y"], run(model, {"x": x})["y"], atol=1e-3)  # 2**-11


def test_an_fp16_mask_of_minus_infinity_stays_one():
    model = between("b = Add (a, c)", c=np.array([0, -np.inf, 0, 0], np.float32))
    typed = cast(model)
    assert typed.kept == {} and initializer(typed.model, "c/FLOAT16").tolist() == [0, -np.inf, 0, 0]


@both
def test_a_weight_of_an_fp32_and_a_narrow_consumer_is_stored_in_both_types(precision):
    model = between("p = Pow (a, c)\n q = Mul (a, c)\n b = Sub (p, q)", c=np.full(4, 1.1, np.float32))
    typed = cast(model, precision)
    kinds = types(typed.model)
    narrow = f"c/{NARROW[precision]}"
    assert kinds["c"] == "FLOAT" and kinds[narrow] == NARROW[precision]
    assert {n.op_type: n.input[1] for n in typed.model.graph.node if n.op_type in ("Pow", "Mul")} == {
        "Pow": "c",
        "Mul": narrow,
    }


def test_a_weight_that_nobody_reads_is_dropped_and_the_order_is_by_name():
    typed = cast(between("b = Add (a, z)\n", z=f32(4), unused=f32(4)))
    assert [t.name for t in typed.model.graph.initializer] == ["w/FLOAT16", "z/FLOAT16"]


def test_consumers_share_one_cast():
    model = between("p = Exp (a)\n q = Mul (p, a)\n r = Add (p, a)\n s = Sqrt (a)\n u = Add (q, r)\n b = Add (u, s)")
    typed = cast(model)
    pairs = [(n.input[0], n.attribute[0].i) for n in typed.model.graph.node if n.op_type == "Cast"]
    assert len(set(pairs)) == len(pairs)
    assert ("a", 1) in pairs and ("p", 10) in pairs


@opsets
@both
def test_resize_keeps_its_scales_in_fp32(precision, opset):
    model = graph(
        """(float[batch, 3, 4, 4] x) => (float[batch, 3, 8, 8] y) {
            a = Neg (x)
            y = Resize <mode = "linear"> (a, , scales)
        }""",
        opset=opset,
        scales=np.array([1, 1, 2, 2], np.float32),
    )
    kinds = types(cast(model, precision).model)
    assert kinds["scales"] == "FLOAT" and kinds["a"] == NARROW[precision]


def test_resize_to_sizes():
    model = graph(
        "(float[batch, 3, 4, 4] x) => (float[batch, 3, 8, 8] y) { y = Resize (x, , , sizes) }",
        sizes=i64(2, 3, 8, 8),
    )
    assert types(cast(model).model)["sizes"] == "INT64"


@both
def test_a_range_of_floats_is_counted_in_fp32(precision):
    model = between(
        "r = Range (zero, four, one)\n b = Add (a, r)",
        zero=np.float32(0),
        one=np.float32(1),
        four=np.float32(4),
    )
    kinds = types(cast(model, precision).model)
    assert kinds["r"] == kinds["one"] == "FLOAT" and kinds["b"] == NARROW[precision]


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


@both
def test_where_types_its_branches_and_not_its_condition(precision):
    model = between("m = Greater (a, c)\n b = Where (m, a, c)", c=np.float32(0.5))
    kinds = types(cast(model, precision).model)
    assert kinds["m"] == "BOOL" and kinds["b"] == NARROW[precision]


def test_casts_of_the_model_keep_their_meaning():
    model = between("i = Cast <to = 7> (a)\n f = Cast <to = 1> (i)\n b = Add (a, f)")
    typed = cast(model)
    kinds = types(typed.model)
    assert (kinds["i"], kinds["f"], kinds["b"]) == ("INT64", "FLOAT", "FLOAT16")
    feeds = {"x": np.array([[1.7, -2.2, 300, 0.4]], np.float32)}
    want = np.trunc(np.float16(feeds["x"])).astype(np.float16) + np.float16(feeds["x"])
    assert twin(typed, feeds)["y"].tolist() == want.tolist()


def test_a_model_that_casts_to_a_narrow_type_itself():
    model = between("h = Cast <to = 10> (a)\n g = Neg (h)\n b = Cast <to = 1> (g)")
    for precision in ("fp16", "bf16"):
        kinds = types(cast(model, precision).model)
        assert kinds["g"] == "FLOAT16"


@both
def test_cast_like_takes_the_type_of_its_model(precision):
    model = between("s = Shape (a)\n d = Gather (s, one)\n f = CastLike (d, a)\n b = Div (a, f)", one=np.array(1))
    kinds = types(cast(model, precision).model)
    assert kinds["f"] == NARROW[precision] and kinds["d"] == "INT64"


@both
def test_constant_of_shape_and_constants(precision):
    model = between(
        "s = Shape (a)\n ones = ConstantOfShape <value = float[1] {1}> (s)\n"
        " k = Constant <value = float[4] {1, 2, 3, 4}> ()\n c = Add (ones, k)\n b = Add (a, c)"
    )
    assert types(cast(model, precision).model)["b"] == NARROW[precision]


@both
def test_indices_are_left_alone(precision):
    model = between(
        "g = Gather <axis = 1> (a, index)\n u = Unsqueeze (g, one)\n q = Squeeze (u, one)\n"
        " e = GatherElements <axis = 1> (q, elements)\n b = Tile (e, once)",
        index=i64(3, 2, 1, 0),
        one=i64(1),
        elements=i64([0, 0, 1, 1]),
        once=i64(1, 1),
    )
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    kinds = types(cast(model, precision).model)
    assert {kinds[n] for n in ("index", "one", "elements", "once")} == {"INT64"}
    assert {kinds[n] for n in "aguqeb"} == {NARROW[precision]}


def test_a_gathered_table_is_narrow():
    model = graph("(int64[batch] i) => (float[batch, 8] y) { e = Gather (table, i)\n y = Neg (e) }", table=f32(9, 8))
    kinds = types(cast(model).model)
    assert kinds["table/FLOAT16"] == kinds["e"] == "FLOAT16" and kinds["i"] == "INT64"


def test_what_is_moved_keeps_the_type_that_it_had():
    """Between two sums nothing is rounded by a Reshape or a Concat."""
    model = between(
        "p = Exp (a)\n r = Reshape (p, shape)\n t = Transpose <perm = [1, 0]> (r)\n q = Log (t)\n"
        " v = Transpose <perm = [1, 0]> (q)\n b = Reshape (v, shape)",
        shape=i64(-1, 4),
    )
    kinds = types(cast(model).model)
    assert {kinds[n] for n in "prtqvb"} == {"FLOAT"}


@pytest.mark.parametrize("order", ["p, a, c", "a, p, c", "c, p, a", "c, a, p"])
def test_concat_of_fp32_and_narrow(order):
    model = graph(
        f"""(float[batch, 4] x) => (float[n, 4] y) {{
            a = Neg (x)
            p = Exp (a)
            b = Concat <axis = 0> ({order})
            y = Abs (b)
        }}""",
        c=f32(1, 4),
    )
    assert types(cast(model).model)["y"] == "FLOAT"


@opsets
@both
@pytest.mark.parametrize("bounds, count", [("low, high", 2), (", high", 1), ("low", 1), ("", 0)])
def test_clip_with_bounds_left_out(bounds, count, precision, opset):
    line = f"b = Clip (a, {bounds})" if bounds else "b = Clip (a)"
    text = f"(float[batch, 4] x) => (float[batch, 4] y) {{ a = Neg (x)\n {line}\n y = Abs (b) }}"
    typed = cast(graph(text, opset=opset, low=np.float32(-1), high=np.float32(1)), precision)
    kinds = types(typed.model)
    assert kinds["b"] == NARROW[precision]
    assert len([n for n in kinds if n.endswith(NARROW[precision])]) == count + 1  # the bounds, and x


def test_pad_with_a_value():
    model = between(
        "p = Pad (a, pads, value)\n b = Slice (p, zero, four, one)",
        pads=i64(0, 0, 0, 1),
        value=np.float32(0.5),
        zero=i64(0),
        four=i64(4),
        one=i64(1),
    )
    assert types(cast(model).model)["p"] == "FLOAT16"


@opsets
@both
def test_all_outputs_of_a_split_have_the_type(precision, opset):
    model = between(
        "q, k = Split <axis = 1> (a, parts)\n m = Mul (q, k)\n b = Concat <axis = 1> (m, q)", parts=i64(2, 2)
    )
    kinds = types(cast(model, precision).model)
    assert {kinds[n] for n in "qkmb"} == {NARROW[precision]}
    assert kinds["parts"] == "INT64"


def test_a_split_of_a_sum_is_fp32():
    kinds = types(
        cast(
            between(
                "e = Exp (a)\n q, k = Split <axis = 1> (e, parts)\n b = Concat <axis = 1> (k, q)",
                parts=i64(2, 2),
            )
        ).model
    )
    assert {kinds[n] for n in "eqk"} == {"FLOAT"}


def test_values_and_indices_of_top_k():
    kinds = types(cast(between("v, i = TopK (a, four)\n f = Cast <to = 1> (i)\n b = Add (v, f)", four=i64(4))).model)
    assert (kinds["v"], kinds["i"]) == ("FLOAT16", "INT64")


@both
def test_the_mean_that_a_layer_normalization_gives_is_fp32(precision):
    """ONNX types Mean and InvStdDev by stash_type, not by the data."""
    model = between("n, mean, inv = LayerNormalization (a, gain)\n d = Sub (n, mean)\n b = Mul (d, inv)", gain=f32(4))
    kinds = types(cast(model, precision).model)
    assert kinds["n"] == NARROW[precision] and kinds["mean"] == kinds["inv"] == "FLOAT"


@both
@pytest.mark.parametrize("io", ["fp32", "fp16"])
def test_an_output_that_is_also_read_inside(io, precision):
    model = graph(
        "(float[batch, 4] x) => (float[batch, 4] y, float[batch, 4] z, float[batch, 4] e) { y = Neg (x)\n"
        " e = Exp (y)\n a = Mul (y, e)\n z = Abs (a) }"
    )
    typed = cast(model, precision, io)
    kinds = types(typed.model)
    assert {kinds[n] for n in "yze"} == {"FLOAT" if io == "fp32" else NARROW[precision]}
    feeds = {"x": np.array([[0.1, -1, 2, 3]], np.float32)}
    want = np.float16(feeds["x"]) if precision == "fp16" else feeds["x"].astype(ml_dtypes.bfloat16)
    assert twin(typed, feeds)["y"].tolist() == (-want).astype(np.float32).tolist()


@both
@pytest.mark.parametrize("io", ["fp32", "fp16"])
def test_an_input_that_is_an_output(io, precision):
    model = graph("(float[batch, 4] x) => (float[batch, 4] x, float[batch, 4] y) { y = Exp (x) }")
    kinds = types(cast(model, precision, io).model)
    assert {kinds["x"], kinds["y"]} == {"FLOAT" if io == "fp32" else NARROW[precision]}


@both
@pytest.mark.parametrize("io", ["fp32", "fp16"])
@pytest.mark.parametrize("line", ["y = Neg (x)", "y = Add (x, c)", "y = Pow (x, c)"])
def test_an_initializer_that_is_an_output(line, io, precision):
    typed = cast(graph(f"(float[batch, 4] x) => (float[batch, 4] y, float[4] c) {{ {line} }}", c=f32(4)), precision, io)
    kinds = types(typed.model)
    assert kinds["c"] == ("FLOAT" if io == "fp32" else NARROW[precision])


def test_an_output_made_by_a_node_that_stays():
    typed = cast(graph("(float[batch, 4] x) => (float[batch, 4] y) { y = Exp (x) }"))
    assert ops(typed.model) == ["Exp"] and typed.casts == 0


IF = """(float[batch, 4] x, bool c) => (float[batch, 4] y) {
    y = If (c) <then_branch = t () => (float[batch, 4] a) { a = Neg (x) },
                else_branch = e () => (float[batch, 4] b) { b = Abs (x) }>
}"""
LOOP = """(float[batch, 4] x) => (float[batch, 4] y) {
    y = Loop (n, , x) <body = g (int64 i, bool c, float[batch, 4] v) => (bool d, float[batch, 4] w) {
        d = Identity (c)
        w = Neg (v)
    }>
}"""


@both
@pytest.mark.parametrize("text, op", [(IF, "If"), (LOOP, "Loop")])
def test_control_flow_is_refused(text, op, precision):
    model = graph(text, n=np.array(3))
    with pytest.raises(UsageError) as caught:
        casting.cast(model, registry.precision(precision))
    assert f"{op} blocks.0/{op}_0" in caught.value.what
    assert caught.value.found == op and "PRECISION=fp32" in caught.value.next


def test_control_flow_is_no_matter_in_fp32():
    model = graph(IF)
    assert casting.cast(model, registry.precision("fp32")).model is model


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


def test_shapes_that_were_inferred_before_are_forgotten():
    model = between("b = Neg (a)")
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("a", 1, ["batch", 4]))
    assert not cast(model).model.graph.value_info


def test_equal_graphs_are_typed_to_equal_bytes():
    model = between("p = Exp (a)\n q = Mul (p, c)\n b = Add (q, a)", c=f32(4))
    assert cast(model).model.SerializeToString() == cast(model).model.SerializeToString()


@pytest.mark.parametrize("kind, dtype", [(10, np.float16), (16, ml_dtypes.bfloat16)])
def test_weights_are_rounded_to_nearest_even(kind, dtype):
    values = np.array([1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-8, 1 + 3 * 2**-8, 1e-8, 0.1, -0.0, np.inf], np.float32)
    made = numpy_helper.to_array(casting.narrow(numpy_helper.from_array(values, "w"), kind, "v"))
    assert made.dtype == dtype and made.tobytes() == values.astype(dtype).tobytes()


@pytest.mark.parametrize("name", ["fp32", "tf32", "fp16", "bf16"])
def test_a_precision_is_named_like_its_file_and_types_by_a_known_type(name):
    precision = registry.precision(name)
    assert precision.name == name and precision.element_type in casting.ELEMENT and precision.summary
    assert precision.tf32 is (name == "tf32")
    assert set(precision.refused) == ({"sm75"} if name in ("tf32", "bf16") else set())
    for op in precision.keep_fp32:
        onnx.defs.get_schema(op, 22)


@both
def test_every_node_of_an_exported_vit_is_typed(precision, tiny_vit):
    _, raw = tiny_vit
    typed = cast(raw, precision)
    products = [n for n in typed.model.graph.node if n.op_type in ("MatMul", "Gemm", "Conv", "Softmax")]
    kinds = types(typed.model)
    assert products and {kinds[n.output[0]] for n in products} == {NARROW[precision]}
    assert typed.kept == {}


@both
def test_a_typed_vit_is_close_to_the_untyped_one(precision, tiny_vit):
    _, raw = tiny_vit
    feeds = feed(raw, 3)
    want = run(raw, feeds)["logits"]
    got = twin(cast(raw, precision), feeds)["logits"]
    tolerance = {"fp16": 0.01, "bf16": 0.1}[precision]  # of the largest value; the recipes allow 0.02 and 0.1
    assert 0 < np.abs(got - want).max() < tolerance * np.abs(want).max()
