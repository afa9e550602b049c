import ml_dtypes
import numpy as np
import onnx
import pytest
from graphs import f32, graph, initializer, ops, run

from calibration import observers
from exporter import casting, numerics, onnxio, placement, quantizing
from exporter.registry import precision

TEXT = "(float[B, 7, 32] x) => (float[B, 7, 64] y) { m = MatMul(x, w) n = Mul(m, r) y = Add(n, b) }"
WEIGHTS = {"w": f32(32, 64), "r": np.abs(f32(64, seed=1)), "b": f32(64, seed=2)}
X = f32(3, 7, 32, seed=4)
AMAX = {"x": float(np.abs(X).max()), "m": float(np.abs(X @ WEIGHTS["w"]).max())}


def quantized(name: str, text: str = TEXT, amax=AMAX, **weights) -> onnx.ModelProto:
    model = graph(text, **(WEIGHTS | weights))
    quantizing.quantize(model, placement.find(model).ranged(amax), amax, precision(name))
    onnxio.check(model)
    return model


@pytest.mark.parametrize("name, rounded", [("int8", observers.int8), ("fp8", observers.float8)])
def test_it_computes_what_numpy_says(name, rounded):
    model = quantized(name)
    assert ops(model).count("QuantizeLinear") == 2 and ops(model).count("DequantizeLinear") == 3

    def eight(values, amax):
        largest = quantizing.LARGEST[precision(name).quantized]
        return rounded(values.astype(np.float64), float(np.float16(amax / largest)) * largest)

    product = eight(X, AMAX["x"]) @ eight(WEIGHTS["w"], np.abs(WEIGHTS["w"]).max())
    expected = eight(product, AMAX["m"]) * WEIGHTS["r"] + WEIGHTS["b"]
    got = run(numerics.twin(model), {"x": X})["y"]
    step = 2 * AMAX["m"] / (127 if name == "int8" else 8) * WEIGHTS["r"].max()
    different = np.abs(got - expected) > 1e-5 * np.abs(expected).max()  # a sum on the edge between two numbers
    assert different.mean() < 0.01 and np.abs(got - expected).max() <= step


def test_a_weight_on_the_left_computes_the_same():
    """(W^T X^T)^T: the numbers of the product from the right, since a tensor's one scale does not mind its order."""
    right = quantized("int8")
    turned = {"w": WEIGHTS["w"].T.copy(), "r": WEIGHTS["r"][:, None], "b": WEIGHTS["b"][:, None]}
    text = TEXT.replace("7, 32", "32, 7").replace("7, 64", "64, 7").replace("MatMul(x, w)", "MatMul(w, x)")
    left = quantized("int8", text, **turned)
    assert ops(left) == ops(right)
    wanted = run(numerics.twin(right), {"x": X})["y"]
    got = run(numerics.twin(left), {"x": X.transpose(0, 2, 1).copy()})["y"].transpose(0, 2, 1)
    step = 2 * AMAX["m"] / 127 * WEIGHTS["r"].max()
    different = np.abs(got - wanted) > 1e-5 * np.abs(wanted).max()  # a sum on the edge between two numbers
    assert different.mean() < 0.01 and np.abs(got - wanted).max() <= step


def test_the_product_writes_eight_bits_before_its_norms_and_bias():
    model = quantized("int8")
    product = next(n for n in model.graph.node if n.op_type == "MatMul")
    (reader,) = (n for n in model.graph.node if product.output[0] in n.input)
    assert reader.op_type == "QuantizeLinear"
    order = [n.op_type for n in model.graph.node]
    assert order.index("Mul") > order.index("QuantizeLinear", order.index("MatMul"))


@pytest.mark.parametrize("name, kind", [("int8", "float16"), ("int8-bf16", "bfloat16"), ("fp8", "float16")])
def test_scales_are_numbers_of_the_type_that_they_are_typed_as(name, kind):
    tiny = AMAX | {"x": 1e-6}
    model = quantized(name, amax=tiny)
    scales = [initializer(model, t.name) for t in model.graph.initializer if t.name.endswith("/scale")]
    assert len(scales) == 3
    for scale in scales:
        assert scale == scale.astype(kind).astype(np.float32) >= float(ml_dtypes.finfo(kind).smallest_normal)
    typed = casting.cast(model, precision(name)).model
    onnxio.check(typed)
    for node in typed.graph.node:
        if node.op_type == "DequantizeLinear":
            assert initializer(typed, node.input[1]).dtype == np.dtype(kind)


def test_what_moves_eight_bits_needs_no_second_rounding():
    text = TEXT.replace(
        "n = Mul(m, r)", "c = Reshape(m, k) s = Transpose <perm = [0, 2, 1]> (c) o = MatMul(c, s) n = Mul(m, r)"
    )
    text = text.replace("(float[B, 7, 64] y)", "(float[B, 7, 64] y, float[B, 7, 7] o)")
    amax = AMAX | {"c": AMAX["m"], "s": AMAX["m"]}
    model = quantized("int8", text, amax, k=np.array([0, 7, 64]))
    assert ops(model).count("QuantizeLinear") == 2
    near = text.replace("c = Reshape(m, k)", "c = Relu(m)")  # near miss: other numbers
    assert ops(quantized("int8", near, amax)).count("QuantizeLinear") == 4


def test_a_weight_of_two_products_is_stored_once():
    text = TEXT.replace("y = Add(n, b)", "z = Relu(x) v = MatMul(z, w) u = Add(n, v) y = Add(u, b)")
    amax = AMAX | {"z": AMAX["x"], "v": AMAX["m"]}
    model = quantized("int8", text, amax)
    assert sum(t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 2 for t in model.graph.initializer) == 1
    assert "w" not in {t.name for t in model.graph.initializer}
