import numpy as np
import onnx
from graphs import assert_same, cast, f32, graph, ops, types
from onnx import numpy_helper

from exporter import onnxio, opsets


def old():
    """ReduceMean's axes are an attribute until opset 17, an input from 18 on."""
    return graph(
        "(float[batch, 3, 4] x) => (float[batch, 3, 5] y) "
        "{ m = ReduceMean <axes = [-1], keepdims = 1> (x)\n c = Sub (x, m)\n y = MatMul (c, w) }",
        opset=17,
        w=f32(4, 5),
    )


def test_an_older_graph_is_the_same_in_a_newer_operator_set_with_its_names_and_weights():
    before, model = old(), old()
    opsets.raise_to(model)
    onnxio.check(model)
    assert onnxio.opset(model) == 22
    assert [v.name for v in model.graph.input] == ["x"]
    assert {"blocks.0/ReduceMean_0", "blocks.0/Sub_1", "blocks.0/MatMul_2"} <= {n.name for n in model.graph.node}
    assert all(n.name.startswith("blocks.0/") for n in model.graph.node)
    np.testing.assert_array_equal(
        numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "w")), f32(4, 5)
    )
    assert_same(before, model)


def test_weights_larger_than_an_attribute_come_through():
    big = graph("(float[batch, 64] x) => (float[batch, 64] y) { y = MatMul (x, w) }", opset=18, w=f32(64, 64))
    before = onnx.ModelProto()
    before.CopyFrom(big)
    opsets.raise_to(big)
    assert_same(before, big)


def test_a_newer_graph_stays_as_it_is():
    model = graph("(float[batch, 4] x) => (float[batch, 4] y) { y = Relu (x) }", opset=23)
    said = model.SerializeToString()
    opsets.raise_to(model)
    assert model.SerializeToString() == said


def test_a_convolution_of_opset_17_is_typed_bf16():
    model = graph(
        "(float[batch, 3, 4, 4] x) => (float[batch, 2, 2, 2] y) { y = Conv <strides = [2, 2]> (x, w) }",
        opset=17,
        w=f32(2, 3, 2, 2),
    )
    typed = cast(model, "bf16").model
    assert onnxio.opset(typed) == 22 and "BFLOAT16" in types(typed).values() and ops(typed).count("Conv") == 1
