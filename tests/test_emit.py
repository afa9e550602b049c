import numpy as np
import onnx_graphsurgeon as gs
from graphs import assert_same, graph, i64, run

from exporter.emit import Emitter, replace
from exporter.surgery import join_reshapes


def opened(text, **weights):
    return gs.import_onnx(graph(text, **weights))


def closed(surgery):
    model = gs.export_onnx(surgery.cleanup().toposort(), do_type_check=False)
    model.ir_version = 10
    return model


def test_new_nodes_are_named_by_the_block_they_serve():
    surgery = opened("(float[batch, 4] x) => (float[batch, 4] y) { y = Neg (x) }")
    e = Emitter(surgery, surgery.nodes[0])
    a, b = e.op("Split", surgery.inputs[0], np.array([1, 3]), outputs=2, axis=1)
    c = e.op("Concat", b, a, axis=1)
    names = [n.name for n in surgery.nodes]
    assert len(set(names)) == 3 and all(n.startswith("blocks.0/") for n in names)
    replace(surgery, surgery.outputs[0], c)
    assert run(closed(surgery), {"x": np.float32([[1, 2, 3, 4]])})["y"].tolist() == [[2, 3, 4, 1]]


def test_a_replaced_tensor_that_is_read_and_an_output():
    text = "(float[batch, 4] x) => (float[batch, 4] y, float[batch, 4] z) { y = Neg (x)\n z = Exp (y) }"
    surgery = opened(text)
    made = Emitter(surgery, surgery.nodes[0]).op("Mul", surgery.inputs[0], np.float32(-1))
    replace(surgery, surgery.outputs[0], made)
    after = closed(surgery)
    assert [n.op_type for n in after.graph.node] == ["Mul", "Exp"]
    assert_same(graph(text), after)


def test_an_output_replaced_by_another_output_or_by_an_input():
    text = """(float[batch, 4] x) => (float[batch, 4] y, float[batch, 4] z, float[batch, 4] w) {{
        y = Abs (x)
        z = {} (y)
        w = {} (x)
    }}"""
    surgery = opened(text.format("Neg", "Exp"))
    y, z, w = surgery.outputs
    replace(surgery, z, y)
    replace(surgery, w, surgery.inputs[0])
    assert_same(graph(text.format("Identity", "Identity")), closed(surgery))


def test_reshapes_of_reshapes_are_one():
    text = """(float[batch, 2, 6] x) => (float[k, l, m] y) {
        a = Reshape (x, one)
        b = Reshape (a, two)
        c = Reshape (b, three)
        y = Exp (c)
    }"""
    weights = {"one": i64(-1, 6), "two": i64(0, 2, 3), "three": i64(-1, 4, 3)}
    surgery = opened(text, **weights)
    assert join_reshapes(surgery) == 2
    after = closed(surgery)
    assert [n.op_type for n in after.graph.node] == ["Reshape", "Exp"]
    assert_same(graph(text, **weights), after)


def test_a_reshape_that_copies_axes_keeps_the_one_before():
    text = "(float[batch, 6] x) => (float[k, l, m] y) { a = Reshape (x, one)\n y = Reshape (a, two) }"
    surgery = opened(text, one=i64(-1, 3), two=i64(0, 3, 1))
    assert join_reshapes(surgery) == 0


def test_a_reshape_that_is_an_output_stays():
    text = "(float[batch, 6] x) => (float[k, 3] a, float[batch, 6] y) { a = Reshape (x, one)\n y = Reshape (a, two) }"
    weights = {"one": i64(-1, 3), "two": i64(-1, 6)}
    surgery = opened(text, **weights)
    assert join_reshapes(surgery) == 1
    assert_same(graph(text, **weights), closed(surgery))
