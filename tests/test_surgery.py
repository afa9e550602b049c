import onnx_graphsurgeon as gs
import pytest
from graphs import assert_same, f32, graph, ops

from exporter import onnxio
from exporter.surgery import bypass, constant


def bypassed(model, position):
    surgery = gs.import_onnx(model)
    bypass(surgery, surgery.nodes[position])
    after = gs.export_onnx(surgery.cleanup().toposort())
    after.ir_version = model.ir_version
    onnxio.check(after)
    assert_same(model, after)
    return after


def test_consumers_read_the_input_instead():
    after = bypassed(graph("(float[batch, 2] x) => (float[batch, 2] y) { a = Identity (x)\n y = Mul (a, a) }"), 0)
    assert ops(after) == ["Mul"] and list(after.graph.node[0].input) == ["x", "x"]


def test_a_graph_output_keeps_its_name_and_its_producer_makes_it():
    model = graph(
        "(float[batch, 2] x) => (float[batch, 2] y, float[batch, 2] z) { a = Neg (x)\n y = Identity (a)\n"
        " z = Mul (a, y) }"
    )
    after = bypassed(model, 1)
    assert [(n.op_type, *n.output) for n in after.graph.node] == [("Neg", "y"), ("Mul", "z")]


def test_one_of_several_outputs_of_a_producer():
    model = graph(
        "(float[batch, 4] x) => (float[batch, 2] y) { a, b = Split <axis = 1, num_outputs = 2> (x)\n"
        " c = Mul (a, b)\n y = Identity (c)\n}"
    )
    assert ops(bypassed(model, 2)) == ["Split", "Mul"]


@pytest.mark.parametrize(
    "text",
    [
        "(float[batch, 2] x) => (float[batch, 2] y) { y = Identity (x) }",
        "(float[batch, 2] x) => (float[batch, 2] y, float[2] z) { z = Identity (c)\n y = Neg (x) }",
        "(float[batch, 2] x) => (float[batch, 2] a, float[batch, 2] y) { y = Identity (a)\n a = Neg (x) }",
    ],
)
def test_between_two_names_that_must_both_stay_nothing_happens(text):
    lines = text.replace("y = Identity (a)\n a = Neg (x)", "a = Neg (x)\n y = Identity (a)")
    model = graph(lines, c=f32(2))
    position = ops(model).index("Identity")
    assert ops(bypassed(model, position)) == ops(model)


def test_only_the_first_input_is_passed_on():
    model = graph(
        "(float[batch, 2] x) => (float[batch, 2] y) { n = Neg (x)\n a = CastLike (n, c)\n y = Abs (a) }",
        c=f32(1),
    )
    after = bypassed(model, 1)
    assert ops(after) == ["Neg", "Abs"] and not after.graph.initializer


def test_constant_is_the_value_of_a_constant_and_of_nothing_else():
    surgery = gs.import_onnx(graph("(float[batch, 2] x) => (float[batch, 2] y) { y = Mul (x, c) }", c=f32(2)))
    x, c = surgery.nodes[0].inputs
    assert constant(x) is None
    assert constant(c).tolist() == f32(2).tolist()
