import numpy as np
import pytest
from graphs import f32, graph

from exporter import placement, quantizing

TEXT = """(float[B, 7, 8] x) => (float[B, 64] y) {
    q = MatMul(x, w)  k = MatMul(x, v)  t = Transpose <perm = [0, 2, 1]> (k)
    s = MatMul(q, t)  p = Softmax <axis = -1> (s)  o = MatMul(p, x)
    m = ReduceMean <keepdims = 0> (o, axes)  y = MatMul(m, head) }"""


def made():
    return graph(TEXT, w=f32(8, 64), v=f32(8, 64), head=f32(8, 64), axes=np.array([1]))


def test_products_with_weights_and_those_of_attention_are_found():
    found = placement.find(made())
    assert [(p.node, p.activation, p.weight, p.output) for p in found.products] == [
        ("blocks.0/MatMul_0", "x", "w", "q"),
        ("blocks.0/MatMul_1", "x", "v", "k"),
    ]
    assert found.operands == (
        ("blocks.0/MatMul_3", 0, "q"),
        ("blocks.0/MatMul_3", 1, "t"),
        ("blocks.0/MatMul_5", 0, "p"),
        ("blocks.0/MatMul_5", 1, "x"),
    )
    assert found.left == {"blocks.0/MatMul_7": "one row an image is no work"}


def test_what_has_no_range_stays():
    found = placement.find(made()).ranged({"x", "q", "t", "k"})
    assert [p.output for p in found.products] == ["q", "k"]
    assert [name for _, _, name in found.operands] == ["q", "t", "x"]
    assert "all zero" in found.left["blocks.0/MatMul_5"]


def test_planes_and_weights_on_the_left_are_told_apart():
    text = "(float[B, 8, 8] x) => (float[2, N, 64] y) { l = MatMul(a, x) r = Reshape(l, k) y = MatMul(r, w) }"
    model = graph(text, a=f32(64, 8), k=np.array([1, -1, 8]), w=f32(2, 8, 64))
    found = placement.find(model)
    assert [(p.activation, p.weight, p.planes, p.left) for p in found.products] == [
        ("x", "a", False, True),
        ("r", "w", True, False),
    ]
    assert found.left == {} and quantizing.rows(found) == {"l"}


@pytest.mark.parametrize("shape, x, why", [((2, 64, 8), "B, 8, 8", "no matrix"), ((64, 8), "B, 8, 1", "one row")])
def test_a_weight_on_the_left_that_is_no_matrix_or_meets_one_column_stays(shape, x, why):
    model = graph(f"(float[{x}] x) => (float[B, 64, N] y) {{ y = MatMul(a, x) }}", a=f32(*shape))
    found = placement.find(model)
    assert not found.products and why in found.left["blocks.0/MatMul_0"]


def test_without_attention_what_goes_straight_to_it_keeps_its_result():
    text = """(float[B, 7, 8] x) => (float[B, 7, 64] y) {
        q0 = MatMul(x, w)  q = Add(q0, b)  k = MatMul(x, v)  t = Transpose <perm = [0, 2, 1]> (k)
        s = MatMul(q, t)  p = Softmax <axis = -1> (s)  o = MatMul(p, x)  y = MatMul(o, u) }"""
    model = graph(text, w=f32(8, 64), v=f32(8, 64), u=f32(8, 64), b=f32(64))
    found = placement.find(model)
    assert {p.output: p.straight for p in found.products} == {"q0": False, "k": True, "y": False}
    assert all(p.paired for p in found.products)
    only = found.products_only()
    assert only.operands == () and {p.output: p.paired for p in only.products} == {"q0": True, "k": False, "y": True}
    assert [p.output for p in only.ranged({"x", "q0", "o", "y"}).products] == ["q0", "k", "y"]


def test_a_tensor_that_something_else_reads_too_goes_not_straight():
    text = "{ k = MatMul(x, v)  t = Transpose <perm = [0, 2, 1]> (k)  s = MatMul(k, t)  z = Relu(k) }"
    model = graph(f"(float[B, 7, 8] x) => (float[B, 7, 7] s, float[B, 7, 64] z) {text}", v=f32(8, 64))
    assert [p.straight for p in placement.find(model).products] == [False]
