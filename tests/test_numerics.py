import math

import ml_dtypes
import numpy as np
import onnx
import pytest
from graphs import f32, feed, graph, i64, ops, run, twin, types
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper

from exporter import casting, numerics, onnxio, registry
from exporter.backends.onnxruntime import session
from exporter.errors import CheckFailed, UsageError

DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
both = pytest.mark.parametrize("kind", DTYPES)
LEVELS = ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_ALL")


def rounded(values, kind):
    """FP32 values that the narrow type has."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32).astype(DTYPES[kind]).astype(np.float32)


def typed(text, kind, opset=22, **weights):
    """A graph typed ``kind`` throughout; KIND in the text is its name, the float weights get it too."""
    with np.errstate(over="ignore"):
        weights = {n: v.astype(DTYPES[kind]) if v.dtype == np.float32 else v for n, v in weights.items()}
    model = graph(text.replace("KIND", kind), opset=opset, **weights)
    onnxio.check(model)
    return model


def assert_bits(got, want):
    """Equal bit for bit, one NaN being as good as another."""
    got, want = np.asarray(got, np.float32), np.asarray(want, np.float32)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    plain = ~np.isnan(want)
    np.testing.assert_array_equal(got.view(np.uint32)[plain], want.view(np.uint32)[plain])


BINARY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}


@both
@pytest.mark.parametrize("op", BINARY)
def test_one_operation_is_rounded_once(op, kind):
    model = typed(f"(KIND[batch] x, KIND[batch] z) => (KIND[batch] y) {{ y = {op} (x, z) }}", kind)
    made = numerics.twin(model)
    rng = np.random.default_rng(0)
    special = [0, -0.0, np.inf, -np.inf, np.nan, 65504, 6e-8, 1e-7, 6.1e-5, 3.38e38, 1e-38, 1e-40, 1 + 2**-11]
    values = np.concatenate([np.repeat(special, len(special)), rng.standard_normal(5000) * 300]).astype(np.float32)
    others = np.concatenate([np.tile(special, len(special)), rng.standard_normal(5000)]).astype(np.float32)
    with np.errstate(all="ignore"):
        want = rounded(BINARY[op](rounded(values, kind), rounded(others, kind)), kind)
        native = BINARY[op](values.astype(DTYPES[kind]), others.astype(DTYPES[kind]))
    assert_bits(want, native)  # numpy's own FP16 and BF16 round once too
    assert_bits(run(made, {"x": values, "z": others})["y"], want)


def narrow_floats(kind):
    bits = arrays(np.uint16, 8, elements=st.integers(0, 2**16 - 1))
    return bits.map(lambda b: b.view(DTYPES[kind]).astype(np.float32))


CHAIN = """(KIND[8] x) => (KIND[8] y, KIND[8] d, KIND[8] q) {
    a = Add (x, c)
    m = Mul (a, a)
    d = Div (m, c)
    s = Sub (d, x)
    n = Abs (s)
    q = Sqrt (n)
    y = Mul (q, x)
}"""


@both
def test_a_chain_is_rounded_after_each_operation(kind):
    c = rounded(np.linspace(-3, 900, 8, dtype=np.float32), kind)
    made = session(numerics.twin(typed(CHAIN, kind, c=c)))

    @settings(max_examples=150, deadline=None)
    @given(narrow_floats(kind))
    def check(x):
        with np.errstate(all="ignore"):
            m = rounded(np.square(rounded(x + c, kind)), kind)
            d = rounded(m / c, kind)
            q = rounded(np.sqrt(np.abs(rounded(d - x, kind))), kind)
            y = rounded(q * x, kind)
        for got, want in zip(made.run(["d", "q", "y"], {"x": x}), (d, q, y), strict=True):
            assert_bits(got, want)

    check()


@both
def test_without_the_roundings_the_chain_is_another_number(kind):
    """The reference of the test above is no reference for plain FP32."""
    model = typed(CHAIN, kind, c=rounded(np.linspace(1, 9, 8, dtype=np.float32), kind))
    x = np.linspace(1, 2, 8, dtype=np.float32)
    plain = without_rounding(numerics.twin(model))
    assert np.abs(run(plain, {"x": x})["y"] - twin(model, {"x": x})["y"]).max() > 1e-4


def test_fp16_overflows_where_it_must():
    model = typed(
        "(KIND[batch] x) => (KIND[batch] a, KIND[batch] y) { a = Mul (x, c)\n y = Div (a, c) }",
        "float16",
        c=np.array([300], np.float32),
    )
    x = np.array([300, 218.3, 218.5, 200, -300], np.float32)
    got = twin(model, {"x": x})
    assert got["a"].tolist() == [np.inf, 65472, np.inf, 60000, -np.inf]
    assert np.isinf(got["y"][0]) and got["y"][3] == 200


def test_bf16_does_not_overflow_there():
    model = typed(
        "(KIND[batch] x) => (KIND[batch] y) { a = Mul (x, c)\n y = Div (a, c) }",
        "bfloat16",
        c=np.array([300], np.float32),
    )
    assert twin(model, {"x": np.array([300], np.float32)})["y"].tolist() == [300]


@pytest.mark.parametrize(
    "value, wanted",
    [
        (65519, 65504),
        (65520, np.inf),
        (2**-24, 2**-24),
        (2**-25, 0),
        (1.5 * 2**-24, 2**-23),
        (2**-25 * 1.001, 2**-24),
        (-(2**-26), -0.0),
        (6.1e-5, 6.097555e-05),
    ],
)
def test_the_ends_of_fp16(value, wanted):
    model = typed("(float[batch] x) => (float[batch] y) { h = Cast <to = 10> (x)\n y = Cast <to = 1> (h) }", "float16")
    assert_bits(twin(model, {"x": np.array([value], np.float32)})["y"], [np.float32(wanted)])


@both
def test_a_product_accumulates_in_fp32_and_is_rounded_once(kind):
    """Whole numbers: every FP32 sum is exact, so there is one right answer, bit for bit."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-15, 16, shape).astype(np.float32) for shape in ((64, 128), (128, 64)))
    a[:, :64], b[:64] = abs(a[:, :64]), abs(b[:64])
    model = typed("(KIND[64, 128] x) => (KIND[64, 64] y) { y = MatMul (x, w) }", kind, w=b)
    want = (a.astype(np.float64) @ b).astype(np.float32)
    assert (rounded(want, kind) != want).mean() > 0.3  # the sums do not fit the type
    assert_bits(twin(model, {"x": a})["y"], rounded(want, kind))


@both
def test_a_product_of_noise_is_at_most_one_step_from_the_exact_one_rounded(kind):
    a, b = rounded(f32(64, 256), kind), rounded(f32(256, 64, seed=1), kind)
    model = typed("(KIND[64, 256] x) => (KIND[64, 64] y) { y = MatMul (x, w) }", kind, w=b)
    got = twin(model, {"x": a})["y"]
    want = rounded(a.astype(np.float64) @ b, kind)
    assert (got != want).mean() < 0.01  # FP32's own error of 1e-6 crosses a rounding boundary this seldom
    step = {"float16": 2.0**-10, "bfloat16": 2.0**-7}[kind]
    np.testing.assert_allclose(got, want, rtol=step, atol=1e-5)  # one unit in the last place; 1e-5 where sums cancel


def test_a_sum_may_leave_fp16_as_long_as_its_result_does_not():
    model = typed(
        "(KIND[batch, 3] x) => (KIND[batch, 1] y) { y = MatMul (x, w) }",
        "float16",
        w=np.ones((3, 1), np.float32),
    )
    x = np.array([[60000, 60000, -60000], [60000, 60000, 0]], np.float32)
    assert twin(model, {"x": x})["y"].tolist() == [[60000], [np.inf]]


@both
@pytest.mark.parametrize(
    "line",
    [
        "y = Softmax (x)",
        "y = LayerNormalization (x, g)",
        "y = Gelu (x)",
        "y = Erf (x)",
        "y = Tanh (x)",
        "y = ReduceMean <keepdims = 1> (x, last)",
        "y = Gemm (x, w, g)",
    ],
)
def test_a_whole_operator_is_rounded_once(line, kind):
    """FP32's own result of the same operator, rounded."""
    text = f"(KIND[batch, 8] x) => (KIND[batch, n] y) {{ {line} }}"
    weights = {"g": rounded(f32(8), kind), "w": rounded(f32(8, 8), kind), "last": i64(-1)}
    x = rounded(feed(graph("(float[batch, 8] x) => (float[batch, 8] y) { y = Neg (x) }"), 5)["x"], kind)
    want = run(graph(text.replace("KIND", "float"), **weights), {"x": x})["y"]
    assert_bits(twin(typed(text, kind, **weights), {"x": x})["y"], rounded(want, kind))


@both
def test_nan_and_inf_propagate(kind):
    model = typed(
        "(KIND[5] x) => (KIND[5] y, KIND[5] m) { y = Add (x, x)\n m = Max (x, z) }",
        kind,
        z=np.zeros(5, np.float32),
    )
    x = np.array([np.nan, np.inf, -np.inf, -0.0, 1], np.float32)
    got = twin(model, {"x": x})
    assert_bits(got["y"], [np.nan, np.inf, -np.inf, -0.0, 2])
    assert got["m"].tolist()[1:] == [np.inf, 0, 0, 1] and np.isnan(got["m"][0])


MOVED = {
    "Reshape": ("y = Reshape (x, shape)", 2),
    "Transpose": ("y = Transpose <perm = [1, 0]> (x)", 2),
    "Squeeze": ("u = Unsqueeze (x, zero)\n y = Squeeze (u, zero)", 2),
    "Flatten": ("y = Flatten (x)", 2),
    "Identity": ("y = Identity (x)", 2),
    "Slice": ("y = Slice (x, zero, one, one)", 2),
    "Split": ("y, b = Split <axis = 1, num_outputs = 2> (x)", 2),
    "Concat": ("y = Concat <axis = 1> (x, x)", 2),
    "Gather": ("y = Gather (x, zero)", 2),
    "GatherND": ("y = GatherND (x, table)", 1),
    "GatherElements": ("y = GatherElements (x, table)", 2),
    "Expand": ("y = Expand (x, big)", 3),
    "Tile": ("y = Tile (x, twice)", 2),
    "Pad": ("y = Pad (x, pads, value)", 2),
    "DepthToSpace": ("r = Reshape (x, four)\n y = DepthToSpace <blocksize = 2> (r)", 4),
    "SpaceToDepth": ("r = Reshape (x, flat)\n y = SpaceToDepth <blocksize = 2> (r)", 4),
    "Relu": ("y = Relu (x)", 2),
    "Neg": ("y = Neg (x)", 2),
    "Abs": ("y = Abs (x)", 2),
    "Max": ("y = Max (x, x)", 2),
    "ReduceMax": ("y = ReduceMax (x, one)", 2),
}


def without_rounding(made):
    """The same graph whose Casts change nothing."""
    plain = onnx.ModelProto()
    plain.CopyFrom(made)
    for node in plain.graph.node:
        if node.op_type == "Cast":
            node.attribute[0].i = TensorProto.FLOAT
    return plain


@both
@pytest.mark.parametrize("op", MOVED)
def test_what_moves_values_rounds_nothing(op, kind):
    line, rank = MOVED[op]
    model = typed(
        f"(KIND[2, 4] x) => (KIND[{', '.join('abcd'[:rank])}] y) {{ {line} }}",
        kind,
        shape=i64(4, 2),
        zero=i64(0),
        one=i64(1),
        table=i64([0, 1]),
        big=i64(3, 2, 4),
        twice=i64(2, 2),
        pads=i64(0, 0, 1, 1),
        value=np.array(7, np.float32),
        four=i64(1, 4, 1, 2),
        flat=i64(1, 1, 2, 4),
    )
    made = numerics.twin(model)
    assert ops(made).count("Cast") == 2  # the input's
    feeds = {"x": rounded(f32(2, 4), kind)}
    assert_bits(run(made, feeds)["y"], run(without_rounding(made), feeds)["y"])


@both
@pytest.mark.parametrize("op", ["Exp", "Sqrt", "Sigmoid", "Softmax", "Add", "Where"])
def test_what_computes_values_rounds_its_result(op, kind):
    arguments = {"Add": "x, x", "Where": "yes, x, x"}.get(op, "x")
    model = typed(f"(KIND[2, 4] x) => (KIND[2, 4] y) {{ y = {op} ({arguments}) }}", kind, yes=np.array(True))
    got = twin(model, {"x": np.abs(f32(2, 4))})["y"]
    assert_bits(got, rounded(got, kind))


@both
def test_the_inputs_are_rounded_and_the_names_stay(kind):
    model = typed(
        "(KIND[batch] x, int64[batch] i) => (KIND[batch] y, int64[batch] j){ y = Identity (x)\n j = Neg (i) }",
        kind,
    )
    made = numerics.twin(model)
    assert [(v.name, v.type.tensor_type.elem_type) for v in (*made.graph.input, *made.graph.output)] == [
        ("x", TensorProto.FLOAT),
        ("i", TensorProto.INT64),
        ("y", TensorProto.FLOAT),
        ("j", TensorProto.INT64),
    ]
    x = np.array([1 + 2**-13, 0.1, 70000], np.float32)
    assert_bits(run(made, {"x": x, "i": i64(1, 2, 3)})["y"], rounded(x, kind))


def test_fp32_parts_of_a_typed_graph_are_not_rounded():
    text = """(float[batch] x) => (float[batch] y, float16[batch] z) {
        e = Exp (x)
        y = Add (e, c)
        h = Cast <to = 10> (e)
        z = Mul (h, h)
    }"""
    model = graph(text, c=np.float32(0.1))
    x = np.array([0.1, 0.2, 5.7, 11.5], np.float32)
    got = twin(model, {"x": x})
    e = run(graph("(float[batch] x) => (float[batch] y) { y = Exp (x) }"), {"x": x})["y"]
    assert_bits(got["y"], e + np.float32(0.1))
    half = rounded(e, "float16")
    assert_bits(got["z"], rounded(half * half, "float16"))


@both
def test_weights_are_those_of_the_type(kind):
    c = np.array([0.1, 1 / 3, 1e-6, 1], np.float32)
    model = typed("(KIND[4] x) => (KIND[4] y) { y = Mul (x, c) }", kind, c=c)
    assert_bits(twin(model, {"x": np.ones(4, np.float32)})["y"], rounded(c, kind))
    assert set(types(numerics.twin(model)).values()) <= {"FLOAT", kind.upper()}


@both
def test_constants_inside_the_graph(kind):
    number = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[kind]
    model = graph(
        f"""({kind}[batch, 2] x) => ({kind}[batch, 2] y) {{
            s = Shape (x)
            filled = ConstantOfShape <value = float[1] {{0.75}}> (s)
            c = Constant <value = float[2] {{0.5, 2}}> ()
            d = Gather <axis = 0> (s, one)
            like = CastLike (d, x)
            to = Cast <to = {number}> (d)
            a = Mul (filled, c)
            b = Add (a, like)
            e = Add (b, to)
            y = Mul (e, x)
        }}""",
        one=np.array(1),
    )
    for node in model.graph.node[1:3]:
        value = node.attribute[0].t
        value.CopyFrom(numerics.narrowed(numpy_helper.to_array(value), number, ""))
    onnxio.check(model)
    assert twin(model, {"x": np.ones((1, 2), np.float32)})["y"].tolist() == [[4.375, 5.5]]


def test_a_whole_number_that_fp16_does_not_have_is_rounded():
    model = graph("(int64[batch] i) => (float16[batch] y) { y = Cast <to = 10> (i) }")
    assert twin(model, {"i": i64(2049, 4099, 70000)})["y"].tolist() == [2048, 4100, np.inf]


def test_from_one_narrow_type_to_the_other():
    model = graph("(float16[batch] x) => (bfloat16[batch] y) { y = Cast <to = 16> (x) }")
    assert twin(model, {"x": np.array([1 + 2**-9, 1 + 2**-6], np.float32)})["y"].tolist() == [1, 1 + 2**-6]


def test_outputs_of_several_types():
    text = "(float16[2, 4] x) => (float16[2, 2] y, int64[2, 2] i) { v, i = TopK (x, two)\n y = Exp (v) }"
    x = f32(2, 4)
    got = twin(graph(text, two=i64(2)), {"x": x})
    assert got["i"].tolist() == np.argsort(-rounded(x, "float16"), axis=1)[:, :2].tolist()
    assert_bits(got["y"], rounded(got["y"], "float16"))


@both
def test_an_initializer_that_is_an_output(kind):
    model = typed("(KIND[2] x) => (KIND[2] y, KIND[2] c) { y = Neg (x) }", kind, c=np.array([0.1, 3], np.float32))
    assert_bits(twin(model, {"x": np.ones(2, np.float32)})["c"], rounded([0.1, 3], kind))


def test_the_model_is_not_changed():
    model = typed("(KIND[2] x) => (KIND[2] y) { c = Constant <value = KIND[2] {1, 2}> ()\n y = Mul (x, c) }", "float16")
    before = model.SerializeToString()
    numerics.twin(model, tf32=True)
    assert model.SerializeToString() == before


def test_a_tensor_of_unknown_type_is_refused():
    model = graph("(float16[batch] x) => (float16[batch] y) { z = Mystery (x)\n y = Neg (z) }")
    with pytest.raises(UsageError) as caught:
        numerics.twin(model)
    assert "z" in caught.value.what and caught.value.found == "Mystery blocks.0/Mystery_0"


BLOCK = """(KIND[batch, 4, 8] x) => (KIND[batch, 4, 8] y) {
    n = LayerNormalization (x, gain, shift)
    q = MatMul (n, w)
    qb = Add (q, shift)
    t = Transpose <perm = [0, 2, 1]> (qb)
    s = MatMul (qb, t)
    sc = Mul (s, scale)
    p = Softmax (sc)
    v = MatMul (p, qb)
    r = Add (v, x)
    h = MatMul (r, w)
    hb = Add (h, shift)
    g = Gelu (hb)
    y = Add (g, r)
}"""


@both
@pytest.mark.parametrize("level", LEVELS[1:])
def test_every_optimisation_level_of_the_runtime_gives_the_same_bits(level, kind):
    model = typed(BLOCK, kind, gain=f32(8), shift=f32(8, seed=1), w=f32(8, 8), scale=np.array(0.35, np.float32))
    made = numerics.twin(model)
    feeds = feed(made, 3)
    want = run(made, feeds)["y"]
    assert_bits(run(made, feeds, level)["y"], want)
    assert_bits(want, rounded(want, kind))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "build, kind, wanted",
    [
        (numerics._overflow, TensorProto.FLOAT16, np.inf),
        (numerics._absorb(2.0**-9), TensorProto.BFLOAT16, 1),
        (numerics._absorb(2.0**-12), TensorProto.FLOAT, 1),
    ],
)
def test_every_optimisation_level_executes_the_canarys_roundings(build, kind, wanted, level):
    model = build(kind)
    got = twin(model, {"x": np.array([[1.0]], np.float32)}, level, tf32=kind == TensorProto.FLOAT)
    assert got["y"].tolist() == [[wanted]]


@pytest.mark.parametrize(
    "build, kind, wanted",
    [
        (numerics._overflow, "float16", 300),
        (numerics._absorb(2.0**-9), "bfloat16", 1 + 2**-9),
        (numerics._absorb(2.0**-12), "float", 1 + 2**-12),
    ],
)
def test_the_canarys_graphs_would_sing_another_song_in_fp32(build, kind, wanted):
    assert run(build(TensorProto.FLOAT), {"x": np.array([[1.0]], np.float32)})["y"].tolist() == [[wanted]]


@pytest.fixture
def fresh():
    numerics.canary.cache_clear()
    yield
    numerics.canary.cache_clear()


def test_the_canary_passes_here(fresh):
    numerics.canary()


def test_the_canary_is_run_once(fresh, monkeypatch):
    numerics.canary()
    monkeypatch.setattr(numerics, "twin", None)
    numerics.canary()


@pytest.mark.parametrize(
    "label, kinds, found",
    [
        ("FP16", (TensorProto.FLOAT16, TensorProto.BFLOAT16), "300.0"),
        ("BF16", (TensorProto.BFLOAT16,), str(1 + 2**-9)),
    ],
)
def test_the_canary_dies_when_roundings_are_left_out(label, kinds, found, fresh, monkeypatch):
    written = numerics._Writer._round

    def elide(self, source, result, kind):
        if kind in kinds:
            self.nodes.append(helper.make_node("Identity", [source], [result]))
        else:
            written(self, source, result, kind)

    monkeypatch.setattr(numerics._Writer, "_round", elide)
    with pytest.raises(CheckFailed) as caught:
        numerics.canary()
    assert label in caught.value.what and str(caught.value.found) == found and caught.value.stage == "parity"
    with pytest.raises(CheckFailed):  # a failure is not remembered as a pass
        numerics.canary()


def test_the_canary_dies_when_tf32_is_not_rounded(fresh, monkeypatch):
    monkeypatch.setattr(numerics._Writer, "_tf32", lambda self, name: name)
    with pytest.raises(CheckFailed, match="TF32"):
        numerics.canary()


def test_the_canary_dies_when_the_runtime_drops_pairs_of_casts(fresh, monkeypatch):
    """As an optimiser would that thinks float -> half -> float is nothing."""
    real = numerics.twin

    monkeypatch.setattr(numerics, "twin", lambda model, tf32=False: without_rounding(real(model, tf32)))
    with pytest.raises(CheckFailed, match="FP16"):
        numerics.canary()


def tf32_reference(value: float) -> float:
    """Round half to even at 10 mantissa bits by exact arithmetic, with FP32's exponents."""
    if not math.isfinite(value) or value == 0:
        return value
    step = max(math.frexp(value)[1] - 11, -136)
    exact = math.ldexp(round(math.ldexp(value, -step)), step)
    return math.copysign(math.inf if abs(exact) > 3.4028235e38 else exact, value)


PATTERNS = st.integers(0, 2**32 - 1)


@settings(max_examples=1000, deadline=None)
@given(PATTERNS)
@example(0x3F801000)  # a tie above an even neighbour
@example(0x3F803000)  # a tie above an odd one
@example(0x7F7FFFFF)
@example(0x00000001)
@example(0x00001000)
@example(0x80000000)
@example(0x7F800000)
@example(0x7FC00000)
def test_to_tf32_is_rounding_to_nearest_even(bits):
    value = np.array([bits], np.uint32).view(np.float32)
    assert_bits(numerics.to_tf32(value), np.array([tf32_reference(float(value[0]))], np.float32))


@pytest.fixture(scope="module")
def veltkamp():
    """x, rounded as the operand of a product; the product's sum would begin with +0 and hide the sign of -0."""
    model = graph("(float[batch, 1] x) => (float[batch, 1] y) { y = MatMul (x, one) }", one=np.ones((1, 1), np.float32))
    rounded = numerics.twin(model, tf32=True)
    (product,) = (node for node in rounded.graph.node if node.op_type == "MatMul")
    rounded.graph.output[0].name = product.input[0]
    made = session(rounded)
    return lambda values: made.run(None, {"x": values.reshape(-1, 1)})[0].ravel()


@settings(max_examples=100, deadline=None)
@given(arrays(np.float32, 64, elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)))
def test_the_graphs_splitting_equals_to_tf32(veltkamp, values):
    assert_bits(veltkamp(values), numerics.to_tf32(values))


@pytest.mark.parametrize("exponent", [-100, -14, 0, 1, 77])
def test_the_graphs_splitting_equals_to_tf32_for_every_low_half_and_every_tie(exponent, veltkamp):
    bits = np.arange(2**23, dtype=np.uint32)[:: 1 << 6 if exponent else 1] | np.uint32((127 + exponent) << 23)
    ties = np.arange(0, 2**23, 2**12, dtype=np.uint32) | np.uint32((127 + exponent) << 23)
    for values in (bits.view(np.float32), ties.view(np.float32), -ties.view(np.float32)):
        assert_bits(veltkamp(values), numerics.to_tf32(values))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e35, -3e38, np.finfo(np.float32).max, 1e-37, 0.0])
def test_the_graphs_splitting_equals_to_tf32_at_the_ends(value, veltkamp):
    values = np.array([value], np.float32)
    assert_bits(veltkamp(values), numerics.to_tf32(values))


@pytest.mark.parametrize(
    "line, shape",
    [
        ("y = MatMul (x, w)", (8, 8)),
        ("y = Gemm (x, w, c)", (8, 8)),
        ("y = Gemm <transB = 1> (x, w, c)", (8, 8)),
        ("u = Unsqueeze (x, last)\n v = Conv (u, w, c)\n y = Squeeze (v, last)", (8, 8, 1)),
        ("u = Unsqueeze (x, last)\n v = ConvTranspose (u, w, c)\n y = Squeeze (v, last)", (8, 8, 1)),
    ],
)
def test_tf32_rounds_the_operands_of_products_and_nothing_else(line, shape):
    """Eleven-bit operands: each product is exact in FP32, so it equals FP32's on rounded operands."""
    text = f"(float[batch, 8] x) => (float[batch, 8] y) {{ {line} }}"
    w, c, x = f32(*shape), f32(8, seed=1), f32(3, 8, seed=2)
    got = twin(graph(text, w=w, c=c, last=i64(-1)), {"x": x}, tf32=True)["y"]
    want = run(graph(text, w=numerics.to_tf32(w), c=c, last=i64(-1)), {"x": numerics.to_tf32(x)})["y"]
    assert_bits(got, want)
    assert np.abs(got - run(graph(text, w=w, c=c, last=i64(-1)), {"x": x})["y"]).max() > 0


def test_tf32_outputs_are_fp32():
    """A sum of two products keeps bits that TF32 does not have, and a shared operand is rounded once."""
    model = graph(
        "(float[batch, 8] x) => (float[batch, 8] y){ a = MatMul (x, w)\n b = MatMul (x, v)\n y = Add (a, b) }",
        w=f32(8, 8),
        v=f32(8, 8, seed=1),
    )
    made = numerics.twin(model, tf32=True)
    assert ops(made)[-3:] == ["MatMul", "MatMul", "Add"] and ops(made).count("Mul") == 1
    got = run(made, {"x": f32(3, 8)})["y"]
    assert (got != numerics.to_tf32(got)).any()


def test_without_tf32_an_fp32_graph_is_its_own_twin():
    model = graph("(float[batch, 8] x) => (float[batch, 8] y) { y = MatMul (x, w) }", w=f32(8, 8))
    made = numerics.twin(model)
    assert made.graph.node == model.graph.node and ops(made) == ["MatMul"]


@both
def test_the_twin_of_a_cast_vit_is_an_fp32_graph_that_rounds(kind, tiny_vit):
    _, raw = tiny_vit
    model = onnx.ModelProto()
    model.CopyFrom(raw)
    precision = registry.precision({"float16": "fp16", "bfloat16": "bf16"}[kind])
    made = numerics.twin(casting.cast(model, precision, io=precision.name).model)
    onnxio.check(made)
    assert {t.data_type for t in made.graph.initializer} == {TensorProto.FLOAT, TensorProto.INT64}
    got = run(made, feed(made, 3))["logits"]
    assert_bits(got, rounded(got, kind))


@both
def test_narrowed_makes_tensors_of_the_type(kind):
    number = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[kind]
    made = numerics.narrowed(np.array([0.1, 2], np.float32), number, "c")
    assert made.name == "c" and made.data_type == number
    assert numpy_helper.to_array(made).astype(np.float32).tolist() == rounded([0.1, 2], kind).tolist()
