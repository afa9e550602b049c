import ml_dtypes
import numpy as np
import onnx
import pytest
from graphs import f32, feed, graph, i64, run

from exporter.shapes import SMALL, infer

ARITHMETIC = """(float[batch, 4, 6] x) => (float[n, 2, 6] y) {
    s = Shape (x)
    b = Gather (s, zero)
    rows = Mul (b, two)
    target = Concat <axis = 0> (rows, two, six)
    y = Reshape (x, target)
}"""


def arithmetic(opset=22):
    return graph(ARITHMETIC, opset=opset, zero=i64(0), two=i64(2), six=i64(6))


@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize("batch", [1, 3, 31])
def test_shape_arithmetic_is_followed_by_value(batch, opset):
    found = infer(arithmetic(opset), batch)
    assert found.values["s"].tolist() == [batch, 4, 6]
    assert found.values["target"].tolist() == [2 * batch, 2, 6]
    assert found.shapes["y"] == (2 * batch, 2, 6)
    assert found.types["y"] == onnx.TensorProto.FLOAT and found.types["target"] == onnx.TensorProto.INT64


def test_without_a_batch_the_symbolic_axis_is_unknown():
    found = infer(arithmetic())
    assert found.shapes["x"] == (-1, 4, 6)
    assert "s" not in found.values and "target" not in found.values
    assert found.types["y"] == onnx.TensorProto.FLOAT


def test_the_model_is_not_changed():
    model = arithmetic()
    before = model.SerializeToString()
    infer(model, 3)
    assert model.SerializeToString() == before


@pytest.mark.parametrize(
    "bounds, shape",
    [
        ("", [3, 4, 6]),
        ("<start = 1>", [4, 6]),
        ("<end = 1>", [3]),
        ("<start = -2>", [4, 6]),
        ("<end = -1>", [3, 4]),
        ("<start = 1, end = 2>", [4]),
        ("<start = -9, end = 9>", [3, 4, 6]),
        ("<start = 2, end = 1>", []),
    ],
)
def test_shape_with_start_and_end(bounds, shape):
    model = graph(f"(float[batch, 4, 6] x) => (int64[n] y) {{ y = Shape {bounds} (x) }}")
    assert infer(model, 3).values["y"].tolist() == shape == run(model, feed(model, 3))["y"].tolist()


def test_the_shape_of_a_scalar():
    model = graph("(float[batch] x) => (int64[n] y) { z = ReduceMax <keepdims = 0> (x)\n y = Shape (z) }")
    found = infer(model, 3)
    assert found.shapes["z"] == () and found.values["y"].tolist() == []


@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize(
    "line",
    [
        "y = Slice (s, last, first, axis, last)",
        "y = Div (s, two)",
        "y = Mod (s, two)",
        "y = Unsqueeze (s, axis)",
        "y = Squeeze (part)\n part = Slice (s, axis, two, axis)",
        "y = Tile (s, two)",
        "y = ConstantOfShape (s)",
        "y = Where (same, s, two)\n same = Equal (s, two)",
        "y = ReduceProd (s)",
        "y = Range (zero, eight, two0)",
        "y = Cast <to = 6> (s)",
        "y = Cast <to = 1> (s)",
        "y = Max (s, two)",
        "y = CumSum (s, zero)",
        "y = Add (b, b)\n a, b = Split <axis = 0> (s, parts)",
        "y = Expand (two, s)",
        "y = NonZero (s)",
        "y = ScatterElements (s, axis, two)",
        "y = Trilu (table)\n table = Tile (t, pair)",
    ],
)
def test_integer_operators_have_onnx_runtimes_value(line, opset):
    lines = "\n".join(["s = Shape (x)", *reversed(line.split("\n"))])
    model = graph(
        f"(float[batch, 4, 6] x) => (float[n] y) {{ {lines} }}",
        opset=opset,
        zero=np.array(0),
        eight=np.array(8),
        two0=np.array(2),
        axis=i64(0),
        two=i64(2),
        last=i64(-1),
        first=i64(-9),
        parts=i64(1, 2),
        t=i64(1, 2).reshape(1, 2),
        pair=i64(2, 2),
    )
    found = infer(model, 3)
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name="y"))  # ONNX Runtime infers its type
    want = run(model, feed(model, 3))["y"]
    assert found.types["y"] == onnx.helper.np_dtype_to_tensor_dtype(want.dtype)
    assert found.shapes["y"] == want.shape
    np.testing.assert_array_equal(found.values["y"], want, strict=True)


def test_what_depends_on_the_data_has_no_value():
    model = graph(
        """(float[batch, 4] x) => (int64[n] y) {
            top = ArgMax <axis = 0, keepdims = 0> (x)
            part = Gather (top, zero)
            y = Add (part, zero)
        }""",
        zero=i64(0),
    )
    found = infer(model, 3)
    assert not {"top", "part", "y"} & set(found.values)
    assert found.shapes["y"] == (1,)


def test_an_axis_that_depends_on_the_data_is_unknown_and_the_others_are_known():
    model = graph(
        "(float[batch, 4] x) => (int64[n, m] h, float[m, n] y) { h = NonZero (x)\n t = Transpose (h)\n"
        " y = Cast <to = 1> (t) }"
    )
    found = infer(model, 3)
    assert found.shapes["h"] == (2, -1) and found.shapes["y"] == (-1, 2)


def test_only_small_values_are_followed():
    model = graph(
        "(float[batch, 4] x) => (int64[n] y, int64[m] z) "
        "{ y = Range (zero, small, one)\n z = Range (zero, large, one) }",
        zero=np.array(0),
        one=np.array(1),
        small=np.array(SMALL),
        large=np.array(SMALL + 1),
    )
    found = infer(model, 1)
    assert found.values["y"].size == SMALL and "z" not in found.values
    assert found.shapes["z"] == (SMALL + 1,)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_weights_keep_their_type(dtype):
    kind = {"float16": "float16", "bfloat16": "bfloat16"}[np.dtype(dtype).name]
    weights = {"small": f32(4, 4).astype(dtype), "large": f32(4, 1024).astype(dtype)}
    model = graph(
        f"({kind}[batch, 4] x) => ({kind}[batch, 1024] y) {{ a = MatMul (x, small)\n y = MatMul (a, large) }}",
        **weights,
    )
    found = infer(model, 3)
    assert found.shapes["y"] == (3, 1024) and found.shapes["large"] == (4, 1024)
    assert len({found.types[n] for n in ("x", "a", "y", "small", "large")}) == 1


def test_the_reshape_of_an_attention_with_batch_and_windows():
    model = graph(
        """(float[batch, 8, 8, 6] x) => (float[n, 2, 16, 3] y) {
            b = Shape <end = 1> (x)
            to = Concat <axis = 0> (b, windows)
            w = Reshape (x, to)
            t = Transpose <perm = [0, 1, 3, 2, 4, 5]> (w)
            rows = Mul (b, four)
            heads = Concat <axis = 0> (rows, tokens)
            h = Reshape (t, heads)
            y = Transpose <perm = [0, 2, 1, 3]> (h)
        }""",
        windows=i64(2, 4, 2, 4, 6),
        four=i64(4),
        tokens=i64(16, 2, 3),
    )
    found = infer(model, 5)
    assert found.shapes["t"] == (5, 2, 2, 4, 4, 6) and found.shapes["y"] == (20, 2, 16, 3)


def test_an_operator_that_nobody_knows_has_no_type_and_stops_nothing():
    model = graph("(float[batch, 4] x) => (float[batch, 4] y) { z = Mystery (x)\n w = Neg (z)\n y = Neg (x) }")
    found = infer(model, 3)
    assert found.types["z"] == onnx.TensorProto.UNDEFINED and found.shapes["z"] is None
    assert found.shapes["w"] is None and found.shapes["y"] == (3, 4)


def test_an_optional_output_that_is_left_out():
    model = graph("(float[batch, 4] x) => (int64[n] y) { s = Shape (x)\n values, , y = Unique <sorted = 1> (s) }")
    assert infer(model, 4).values["y"].tolist() == [0, 0]


def test_an_optional_input_that_is_left_out():
    model = graph("(float[batch, 4] x) => (int64[n] y) { s = Shape (x)\n y = Clip (s, , top) }", top=np.array(3))
    assert infer(model, 5).values["y"].tolist() == [3, 3]


def test_a_constant_node_is_followed_like_an_initializer():
    model = graph("""(float[batch, 4] x) => (float[n, 2] y) {
        b = Shape <end = 1> (x)
        two = Constant <value_ints = [2]> ()
        rows = Mul (b, two)
        target = Concat <axis = 0> (rows, two)
        y = Reshape (x, target)
    }""")
    assert infer(model, 3).shapes["y"] == (6, 2)


def test_control_flow_is_typed_by_its_branches():
    model = graph(
        """(float[batch, 4] x) => (float[batch, 4] y) {
            y = If (yes) <then_branch = t () => (float[batch, 4] a) { a = Neg (x) },
                          else_branch = e () => (float[batch, 4] b) { b = Abs (x) }>
        }""",
        yes=np.array(True),
    )
    assert infer(model, 3).types["y"] == onnx.TensorProto.FLOAT


def test_inferred_shapes_are_those_that_onnx_runtime_makes():
    model = graph(
        """(float[batch, 3, 16, 16] x) => (float[batch, 5] y) {
            c = Conv <strides = [4, 4]> (x, w)
            b = Shape <end = 1> (c)
            flat = Concat <axis = 0> (b, rest)
            r = Reshape (c, flat)
            t = Transpose <perm = [0, 2, 1]> (r)
            n = LayerNormalization (t, gain)
            p = ReduceMean <keepdims = 0> (n, one)
            y = MatMul (p, head)
        }""",
        w=f32(8, 3, 4, 4),
        rest=i64(8, -1),
        gain=f32(8),
        one=i64(1),
        head=f32(8, 5),
    )
    found = infer(model, 3)
    inner = [name for n in model.graph.node for name in n.output]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in inner)
    for name, value in run(model, feed(model, 3)).items():
        assert found.shapes[name] == value.shape, name


def test_a_large_result_of_small_operands_is_shaped_and_not_computed():
    """A mask of one value for each pixel of a large batch would be gigabytes."""
    model = graph(
        """(float[batch, 4] x) => (int64[batch, m, n] y) {
            b = Shape <end = 1> (x)
            target = Concat <axis = 0> (b, side, side)
            y = Expand (one, target)
        }""",
        side=i64(100_000),
        one=i64(1),
    )
    found = infer(model, 4099)
    assert found.shapes["y"] == (4099, 100_000, 100_000) and "y" not in found.values


def test_a_group_normalization_is_like_its_input():
    line = "g = GroupNormalization <num_groups = 2> (x, s, b)"
    text = f"(float[B, 4, 6, 6] x) => (float[B, 4, 6, 6] y) {{ {line} y = Relu(g) }}"
    made = infer(graph(text, s=np.ones(4, np.float32), b=np.zeros(4, np.float32)), batch=2)
    assert made.shapes["g"] == (2, 4, 6, 6) and made.types["g"] == onnx.TensorProto.FLOAT
