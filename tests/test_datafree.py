import numpy as np
import onnx_graphsurgeon as gs
from graphs import f32, graph

from exporter import datafree
from exporter.datafree import DataFree
from exporter.rewriting import shapes_of


def free(lines, out="batch, 4", **weights):
    model = graph(f"(float[batch, 4] x) => (float[{out}] y) {{ {lines} }}", **weights)
    surgery = gs.import_onnx(model)
    return DataFree(surgery, shapes_of(model)), {**surgery.tensors()}


def test_shapes_and_what_is_computed_of_them_are_known_at_each_batch():
    found, tensors = free(
        "s = Shape (x)\n o = ConstantOfShape (s)\n c = CumSum (o, zero)\n e = Exp (c)\n y = Add (x, e)",
        zero=np.int64(0),
    )
    assert [found.holds(tensors[n]) for n in ("s", "o", "c", "e", "y", "x")] == [True] * 4 + [False] * 2
    np.testing.assert_array_equal(found.value(tensors["s"], 3), [3, 4])
    np.testing.assert_array_equal(found.value(tensors["e"], 2), np.ones((2, 4)))
    assert found.value(tensors["y"], 2) is None and found.value(tensors["x"], 2) is None


def test_constants():
    found, tensors = free("y = Add (x, c)", c=f32(4))
    assert found.holds(tensors["c"])
    np.testing.assert_array_equal(found.value(tensors["c"], 9), f32(4))


def test_noise_is_not_known():
    found, tensors = free("s = Shape (x)\n o = ConstantOfShape (s)\n r = RandomNormalLike (o)\n y = Add (x, r)")
    assert found.holds(tensors["o"]) and not found.holds(tensors["r"]) and found.value(tensors["r"], 1) is None


def test_what_is_large_is_not_computed(monkeypatch):
    monkeypatch.setattr(datafree, "LIMIT", 7)
    found, tensors = free("s = Shape (x)\n o = ConstantOfShape (s)\n e = Exp (o)\n y = Add (x, e)")
    assert found.value(tensors["e"], 1) is not None and found.value(tensors["e"], 2) is None


def test_one_of_several_results():
    found, tensors = free("s = Shape (x)\n a, b = Split <num_outputs = 2> (s)\n f = Cast <to = 1> (b)\n y = Add (x, f)")
    assert found.value(tensors["b"], 5).tolist() == [4] and found.value(tensors["f"], 5).tolist() == [4.0]


def test_a_long_chain_does_not_go_deep():
    lines = "\n".join(f"t{i + 1} = Neg (t{i})" for i in range(3000))
    found, tensors = free(f"t0 = Abs (x)\n {lines}\n y = Add (t3000, c)", c=f32(4))
    assert not found.holds(tensors["t3000"])


def test_an_operator_of_another_domain_is_not_computed():
    model = graph("(float[batch, 4] x) => (float[k] y) { s = Shape (x)\n m = Mystery (s)\n y = Add (x, m) }")
    model.graph.node[1].domain = "com.example"
    model.opset_import.add(domain="com.example", version=1)
    surgery = gs.import_onnx(model)
    assert DataFree(surgery, shapes_of(model)).value(surgery.tensors()["m"], 1) is None
