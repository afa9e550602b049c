import onnx_graphsurgeon as gs
import pytest
from graphs import assert_same, f32, graph, ops

from exporter import onnxio
from exporter.surgery import bypass, constant, tidy


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


CHAIN = "(float[batch, 2] x) => (float[batch, 2] y) { a = Neg (x)\n b = Abs (a)\n c = Exp (a)\n y = Mul (b, c) }"
IF = (
    "(float[batch, 2] x, bool go) => (float[batch, 2] y) { a = Neg (x)\n y = If (go) "
    "<then_branch = t () => (float[batch, 2] p) { d = Exp (a)\n p = Abs (a) },"
    " else_branch = e () => (float[batch, 2] q) { q = Neg (a) }> }"
)


def watched(surgery, monkeypatch):
    """The names of what onnx-graphsurgeon is asked to do."""
    done = []
    for name in ("cleanup", "toposort"):
        whole = getattr(gs.Graph, name)
        monkeypatch.setattr(gs.Graph, name, lambda self, *a, w=whole, n=name, **k: done.append(n) or w(self, *a, **k))
    return done


def test_a_tidy_graph_is_left_alone(monkeypatch):
    surgery = gs.import_onnx(graph(CHAIN))
    done = watched(surgery, monkeypatch)
    assert tidy(surgery) is surgery and done == []


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (0, 3, 1, 2), (3, 2, 1, 0), (0, 1, 3, 2)])
def test_nodes_in_another_order_are_sorted(order):
    surgery = gs.import_onnx(graph(CHAIN))
    nodes = list(surgery.nodes)
    surgery.nodes = [nodes[i] for i in order]
    assert [n.op for n in tidy(surgery).nodes] in (["Neg", "Abs", "Exp", "Mul"], ["Neg", "Exp", "Abs", "Mul"])


def test_nodes_that_onnx_graphsurgeon_would_sort_by_level_are_sorted():
    """A valid order is not yet the one that it makes: a node of the first level behind one of the second."""
    surgery = gs.import_onnx(
        graph("(float[batch, 2] x) => (float[batch, 2] y) { a = Neg (x)\n b = Abs (a)\n c = Exp (x)\n y = Mul (b, c) }")
    )
    assert [n.op for n in tidy(surgery).nodes] == ["Neg", "Exp", "Abs", "Mul"]


@pytest.mark.parametrize("dead", ["d = Exp (b)", "d = Exp (b)\n e = Exp (d)"])
def test_what_nothing_reads_goes_with_its_place_among_the_readers(dead):
    surgery = gs.import_onnx(graph(CHAIN.replace(" y =", f" {dead}\n y =")))
    tidy(surgery)
    assert [n.op for n in surgery.nodes] == ["Neg", "Abs", "Exp", "Mul"]
    assert [len(t.outputs) for t in surgery.nodes[1].outputs] == [1]


def test_an_if_is_tidied_in_its_branches():
    surgery = gs.import_onnx(graph(IF))
    tidy(surgery)
    branch = next(n for n in surgery.nodes if n.op == "If").attrs["then_branch"]
    assert [n.op for n in branch.nodes] == ["Abs"]


def test_a_node_that_the_graph_no_longer_has_is_noticed(monkeypatch):
    surgery = gs.import_onnx(graph(CHAIN))
    done = watched(surgery, monkeypatch)
    surgery.nodes = [n for n in surgery.nodes if n.op != "Exp"]
    tidy(surgery)
    assert done
