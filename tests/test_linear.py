import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graphs import f32, feed, graph, run

from exporter import linear

LINEARS = {
    "MatMul": ("y = MatMul (x, w)", False),
    "MatMul and Add": ("m = MatMul (x, w)\n y = Add (m, b)", True),
    "Add first": ("m = MatMul (x, w)\n y = Add (b, m)", True),
    "a bias of rank two": ("m = MatMul (x, w)\n y = Add (m, row)", True),
    "Gemm": ("y = Gemm (x, w)", False),
    "Gemm with a bias": ("y = Gemm (x, w, b)", True),
    "Gemm transposed": ("y = Gemm <transB = 1> (x, t, row)", True),
    "Gemm with one number": ("y = Gemm (x, w, number)", True),
    "Gemm with a scalar": ("y = Gemm (x, w, scalar)", True),
}
WEIGHTS = {
    "w": f32(4, 3),
    "t": f32(4, 3).T.copy(),
    "b": f32(3, seed=1),
    "row": f32(1, 3, seed=1),
    "number": f32(1),
    "scalar": np.float32(2),
    "column": f32(3, 1),
    "v": f32(3, 4, 3),
}


def of(lines):
    model = graph(f"(float[batch, 4] x) => (float[batch, 3] y) {{ {lines} }}", **WEIGHTS)
    return linear.of(gs.import_onnx(model).outputs[0]), model


@pytest.mark.parametrize("case", LINEARS)
def test_a_linear_layer_is_its_weight_and_bias(case):
    lines, biased = LINEARS[case]
    found, model = of(lines)
    assert found.input.name == "x" and found.output.name == "y" and (found.bias is not None) == biased
    feeds = feed(model, 3)
    due = feeds["x"] @ found.weight + (found.bias if biased else 0)
    np.testing.assert_allclose(run(model, feeds)["y"], due, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "lines",
    [
        "y = Relu (x)",
        "y = Add (x, x)",
        "m = MatMul (x, w)\n y = Add (m, scalar)",
        "m = MatMul (x, w)\n y = Add (m, number)",
        "m = MatMul (x, w)\n y = Add (m, m)",
        "m = MatMul (x, w)\n n = Neg (m)\n a = Add (m, b)\n y = Sub (a, n)",
        "xt = Transpose (x)\n y = MatMul (x, xt)",
        "y = MatMul (x, v)",
        "xt = Transpose (x)\n y = Gemm <transA = 1> (xt, w, b)",
        "y = Gemm <alpha = 2.0> (x, w, b)",
        "y = Gemm <beta = 0.5> (x, w, b)",
        "z = Abs (b)\n y = Gemm (x, w, z)",
        "m = MatMul (x, w)\n y = Sub (m, b)",
    ],
)
def test_what_is_no_linear_layer(lines):
    assert of(lines)[0] is None


def test_a_product_with_a_bias_that_something_else_reads_is_none_with_a_bias():
    model = graph(
        "(float[batch, 4] x) => (float[batch, 3] y, float[batch, 3] z) "
        "{ m = MatMul (x, w)\n y = Add (m, b)\n z = Neg (m) }",
        w=f32(4, 3),
        b=f32(3),
    )
    y, z = gs.import_onnx(model).outputs
    assert linear.of(y) is None and linear.of(z.inputs[0].inputs[0]).bias is None


def test_columns():
    found, _ = of("m = MatMul (x, w)\n y = Add (m, b)")
    weight, bias = found.columns(np.array([2, 0]), np.float32([2, 3]))
    np.testing.assert_array_equal(weight, WEIGHTS["w"][:, [2, 0]] * np.float32([2, 3]))
    np.testing.assert_array_equal(bias, WEIGHTS["b"][[2, 0]] * np.float32([2, 3]))
    assert of("y = MatMul (x, w)")[0].columns(np.array([1]))[1] is None


@pytest.mark.parametrize("chosen", [[0, 1, 2], [1, 2], [2], [2, 1, 0], [0, 2], [1, 1], [-1], [-2, -1], [-1, 0], []])
def test_columns_are_those_that_were_asked_for(chosen):
    weight, bias = f32(4, 3), f32(3)
    layer = linear.Linear(None, weight, bias, None, None)
    taken, moved = layer.columns(np.array(chosen, np.int64), 0.5)
    due = np.stack([weight[:, i] for i in chosen], 1) if chosen else np.empty((4, 0))
    np.testing.assert_array_equal(taken, due * np.float32(0.5))
    np.testing.assert_array_equal(moved, np.array([bias[i] for i in chosen]) * np.float32(0.5))
    assert taken.dtype == moved.dtype == np.float32 and not np.shares_memory(taken, weight)


def test_a_column_that_is_not_there_is_an_error():
    for chosen in ([3], [2, 3]):
        with pytest.raises(IndexError):
            linear.Linear(None, f32(4, 3), None, None, None).columns(np.array(chosen))
