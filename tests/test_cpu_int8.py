import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter import cpu_int8
from exporter.backends.onnxruntime import run, session

ROWS, IN, OUT = 6, 96, 40


def quantised(columns=True, result=True, bias=True, seed=0, left=False):
    """A quantised product as the tool types it for TensorRT, in FP16, and the pieces that it is made of.

    ``left``: of (ROWS, IN, 3), with the weight on the left.
    """
    rng = np.random.default_rng(seed)
    numbers = rng.integers(-127, 128, (IN, OUT)).astype(np.int8)
    pieces = {"x_scale": np.float16(0.02), "w_scale": np.float16(0.001), "y_scale": np.float16(0.05),
              "r": rng.uniform(-2, 2, OUT).astype(np.float16),
              "b": rng.standard_normal(OUT).astype(np.float16)}  # fmt: skip
    nodes = [
        ("Cast", ["x"], "h", {"to": TensorProto.FLOAT16}), ("QuantizeLinear", ["h", "x_scale", "zero"], "xq", {}),
        ("DequantizeLinear", ["xq", "x_scale", "zero"], "xd", {}),
        ("DequantizeLinear", ["numbers", "w_scale", "zero"], "wd", {}),
        ("MatMul", ["wd", "xd"] if left else ["xd", "wd"], "m", {}),
    ]  # fmt: skip
    last = "m"
    if result:
        nodes += [("QuantizeLinear", [last, "y_scale", "zero"], "mq", {}),
                  ("DequantizeLinear", ["mq", "y_scale", "zero"], "md", {})]  # fmt: skip
        last = "md"
    if columns:
        nodes.append(("Mul", [last, "r"], "c", {}))
        last = "c"
    if bias:
        nodes.append(("Add", [last, "b"], "a", {}))
        last = "a"
    nodes.append(("Cast", [last], "y", {"to": TensorProto.FLOAT}))
    constants = pieces | {"numbers": numbers, "zero": np.int8(0)}
    if left:
        constants |= {"numbers": numbers.T, "r": pieces["r"][:, None], "b": pieces["b"][:, None]}
    graph = helper.make_graph(
        [helper.make_node(op, i, [o], name=f"block/{o}", **attrs) for op, i, o, attrs in nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [ROWS, IN, 3] if left else [ROWS, IN])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [ROWS, OUT, 3] if left else [ROWS, OUT])],
        [numpy_helper.from_array(np.array(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model, {k: np.asarray(v, np.float32) for k, v in (pieces | {"numbers": numbers}).items()}


def exactly(x, p):
    """What integer arithmetic gives, with nothing rounded but the input."""
    integers = np.clip(np.rint(x / p["x_scale"]), -127, 127)
    return (integers @ p["numbers"].astype(np.float64)) * p["x_scale"] * p["w_scale"] * p["r"] + p["b"]


@pytest.mark.parametrize("seven_bits, allowed", [
    (True, 0.5 * 96**0.5 * 127 * 4),  # half a step of weights, 96 terms, 4 deviations
    (False, 0.02),  # FP32 rounds; a wrong integer would be 1
])  # fmt: skip
def test_the_product_is_one_operator_and_its_arithmetic_is_exact(seven_bits, allowed):
    model, p = quantised()
    x = np.random.default_rng(1).uniform(-2.5, 2.5, (ROWS, IN)).astype(np.float32)
    if not seven_bits:
        x = np.abs(x) * 0.01  # bytes so small that no kernel's 16 bits overflow, whatever the CPU
    assert cpu_int8.adapt(model, seven_bits) == {"columns": 1, "unquantised": 0}
    ops = [n.op_type for n in model.graph.node]
    assert sorted(set(ops) - {"Cast"}) == ["MatMulIntegerToFloat", "QuantizeLinear"]
    found, expected = run(session(model), {"x": x})["y"], exactly(x, p)
    unit = float(p["x_scale"] * p["w_scale"]) * 2  # of the integer sums, times the largest column
    assert np.abs(found - expected).max() <= allowed * unit
    assert np.abs(expected).max() > 5 * np.abs(found - expected).max()


@pytest.mark.parametrize("bias", [True, False])
def test_a_weight_on_the_left_is_multiplied_from_the_right(bias):
    model, p = quantised(left=True, bias=bias)
    x = 0.01 * np.random.default_rng(1).uniform(0, 2.5, (ROWS, IN, 3)).astype(np.float32)
    assert cpu_int8.adapt(model, False) == {"columns": 1, "unquantised": 0}
    ops = [n.op_type for n in model.graph.node if n.op_type != "Cast"]
    assert ops == ["QuantizeLinear", "Transpose", "MatMulIntegerToFloat", "Transpose"]
    found = run(session(model), {"x": x})["y"]
    expected = exactly(x.transpose(0, 2, 1), p if bias else p | {"b": 0}).transpose(0, 2, 1)
    unit = float(p["x_scale"] * p["w_scale"]) * 2
    assert np.abs(found - expected).max() <= 0.02 * unit  # as from the right
    assert np.abs(expected).max() > 5 * np.abs(found - expected).max()


def test_seven_bits_never_overflow_16():
    model, p = quantised()
    cpu_int8.adapt(model, True)
    x = np.full((ROWS, IN), 2.54, np.float32)  # every byte is the largest there is
    (numbers,) = (numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == TensorProto.INT8)
    assert np.abs(numbers).max() <= 64
    found, expected = run(session(model), {"x": x})["y"], exactly(x, p)
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("missing", ["columns", "result"])
def test_what_is_no_such_chain_is_left_as_it_is(missing):
    model, _ = quantised(**{missing: False})
    x = np.random.default_rng(2).uniform(-1, 1, (ROWS, IN)).astype(np.float32)
    before = run(session(model), {"x": x})["y"]
    assert cpu_int8.adapt(model, True)["columns"] == 0
    assert "MatMulIntegerToFloat" not in [n.op_type for n in model.graph.node]
    after = run(session(model), {"x": x})["y"]
    # FP16's rounding is gone; a number of 8 bits may round to its neighbour, of 0.05 times the largest column
    np.testing.assert_allclose(after, before, atol=0.11)


def test_without_a_bias_there_is_none():
    model, p = quantised(bias=False)
    x = np.full((ROWS, IN), 0.5, np.float32)
    cpu_int8.adapt(model, True)
    found, expected = run(session(model), {"x": x})["y"], exactly(x, p) - p["b"]
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_products_of_two_activations_are_fp32_again():
    text = """
        <ir_version: 10, opset_import: ["" : 22]>
        g (float[4, 4] x) => (float[4, 4] y)
        <float s = {0.01}, int8 z = {0}>
        { q = QuantizeLinear (x, s, z)
          d = DequantizeLinear (q, s, z)
          y = MatMul (d, d) }"""
    model = onnx.parser.parse_model(text)
    assert cpu_int8.adapt(model, True) == {"columns": 0, "unquantised": 2}
    assert [n.op_type for n in model.graph.node] == ["MatMul"]
    x = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    np.testing.assert_allclose(run(session(model), {"x": x})["y"], x @ x, rtol=1e-5)
