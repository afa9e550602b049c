import numpy as np
import pytest
from graphs import f32, graph, initializer, ops, rewritten

NAME = "fold_layer_normalization"
NORM = "n = LayerNormalization <axis = -1> (x, g, b)"
VALUES = {"g": f32(8, seed=1) + 2, "b": f32(8, seed=2), "w": f32(8, 4, seed=3), "c": f32(4, seed=4),
          "v": f32(8, 4, seed=5), "d": f32(4, seed=6)}  # fmt: skip


def net(lines, out="float[batch, 6, 4] y", **changed):
    values = VALUES | changed
    used = {k: v for k, v in values.items() if f", {k})" in lines or f"({k}," in lines or f", {k}," in lines}
    return graph(f"(float[batch, 6, 8] x) => ({out}) {{ {lines} }}", 22, **used)


def test_scale_and_shift_go_into_every_layer_behind():
    model = net(f"{NORM} p = MatMul (n, w) q = Add (p, c) r = MatMul (n, v) s = Add (d, r) y = Mul (q, s)")
    found = rewritten(NAME, model, 1, close=True)
    assert sorted(ops(found)) == ["Add", "Add", "LayerNormalization", "MatMul", "MatMul", "Mul"]
    assert len(found.graph.node[0].input) == 2 and (initializer(found, found.graph.node[0].input[1]) == 1).all()


def test_rows_may_move_in_between():
    lines = f"{NORM} t = Transpose <perm = [1, 0, 2]> (n) p = MatMul (t, w) y = Add (p, c)"
    rewritten(NAME, net(lines, "float[6, batch, 4] y"), 1, close=True)


def test_a_scale_alone_needs_no_bias():
    lines = "n = LayerNormalization <axis = -1> (x, g) y = MatMul (n, w)"
    assert ops(rewritten(NAME, net(lines), 1, close=True)) == ["LayerNormalization", "MatMul"]


def test_once_is_enough():
    lines = "n = LayerNormalization <axis = -1> (x, g, b) p = MatMul (n, w) y = Add (p, c)"
    rewritten(NAME, net(lines, g=np.ones(8, np.float32), b=np.zeros(8, np.float32)), 0)


@pytest.mark.parametrize("lines, out, changed", [
    (f"{NORM} y = MatMul (n, w)", "float[batch, 6, 4] y", {}),  # nowhere for the shift to go
    (f"{NORM} p = MatMul (n, w) y = Add (p, c)", "float[batch, 6, 4] y, float[batch, 6, 8] n", {}),
    (f"{NORM} p = MatMul (n, w) q = Add (p, c) r = Relu (n) y = Concat <axis = -1> (q, r)",
     "float[batch, 6, 12] y", {}),
    (f"{NORM} t = Transpose <perm = [0, 2, 1]> (n) p = MatMul (t, u) y = Add (p, e)", "float[batch, 8, 3] y",
     {"u": f32(6, 3), "e": f32(3)}),  # the columns are mixed, not the rows
    (f"{NORM} p = MatMul (n, w) y = Add (p, c)", "float[batch, 6, 4] y", {"g": np.full(8, 1e5, np.float32)}),
])  # fmt: skip
def test_what_looks_alike_stays(lines, out, changed):
    model = net(lines, out, **changed)
    assert sorted(ops(rewritten(NAME, model, 0))) == sorted(ops(model))


def test_a_shift_of_zeros_costs_no_addition():
    model = net("n = LayerNormalization <axis = -1> (x, g, b) y = MatMul (n, w)", b=np.zeros(8, np.float32))
    assert ops(rewritten(NAME, model, 1, close=True)) == ["LayerNormalization", "MatMul"]


def test_a_shift_of_another_shape_than_the_scale_stays():
    rewritten(NAME, net(f"{NORM} p = MatMul (n, w) y = Add (p, c)", b=f32(1)), 0)
