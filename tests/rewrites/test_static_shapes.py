import numpy as np
import pytest
from tools import graph, ops, rewritten, same, weight

from exporter.rewrites import static_shapes

I64 = np.int64


@pytest.mark.parametrize("opset", [17, 22])
def test_a_reshape_target_that_is_computed_from_the_batch_becomes_a_constant(opset):
    model = graph(
        """(float[B, 3, 4] x) => (float[M, 4] y) {
            s = Shape (x)  b = Gather (s, zero)  t = Mul (b, three)  u = Unsqueeze (t, axes)
            target = Concat <axis = 0> (u, four)  y = Reshape (x, target)
        }""",
        opset, zero=I64(0), three=I64(3), axes=[0], four=np.array([4], I64),
    )  # fmt: skip
    made, matches = rewritten(static_shapes, model)
    assert matches == 1 and ops(made) == ["Reshape"]
    assert weight(made, made.graph.node[0].input[1]).tolist() == [-1, 4]
    same(model, made)


def test_a_value_that_is_the_same_at_every_batch_becomes_a_constant():
    model = graph(
        """(float[B, 3, 4] x) => (float[B, 1, 4] y) {
            s = Shape <start = 1, end = 2> (x)  e = Sub (s, two)  y = Slice (x, zero, e, one)
        }""", two=np.array([2], I64), zero=np.array([0], I64), one=np.array([1], I64),
    )  # fmt: skip
    made, matches = rewritten(static_shapes, model)
    assert matches >= 1 and ops(made) == ["Slice"]
    same(model, made)


def test_zero_in_a_target_means_copy_and_is_kept_right():
    model = graph(
        """(float[B, 3, 4] x) => (float[B, 12] y) {
            s = Shape <start = 1, end = 2> (x)  t = Mul (s, four)  target = Concat <axis = 0> (zero, t)
            y = Reshape (x, target)
        }""", four=np.array([4], I64), zero=np.array([0], I64),
    )  # fmt: skip
    made, matches = rewritten(static_shapes, model)
    assert matches >= 1 and ops(made) == ["Reshape"]
    same(model, made)


def test_two_axes_that_vary_are_refused():
    model = graph(
        """(float[B, 3, 4] x) => (float[P, Q, 2] y) {
            s = Shape <start = 0, end = 1> (x)  e = Expand (x, big)  target = Concat <axis = 0> (s, s, two)
            y = Reshape (z, target)  z = Gather (e, index)
        }""".replace("y = Reshape (z, target)  z = Gather (e, index)", "z = Tile (one, target)  y = Reshape (z, target)"),
        two=np.array([2], I64), big=np.array([1, 3, 4], I64), one=np.ones((1, 1, 1), np.float32),
    )  # fmt: skip
    made, matches = rewritten(static_shapes, model)
    assert matches == 0 and "Shape" in ops(made)
    same(model, made)


def test_a_target_that_depends_on_the_data_is_refused():
    model = graph(
        """(float[B, 3, 4] x) => (float[P, Q] y) {
            m = ReduceMax <keepdims = 0> (x)  z = Mul (m, nought)  i = Cast <to = 7> (z)  p = Add (i, twelve)
            target = Concat <axis = 0> (minus, p)  y = Reshape (x, target)
        }""", nought=np.float32(0), twelve=np.array([12], I64), minus=np.array([-1], I64),
    )  # fmt: skip
    made, matches = rewritten(static_shapes, model)
    assert matches == 0
    same(model, made)


def test_a_range_over_the_batch_is_left_alone():
    model = graph(
        """(float[B, 3, 4] x) => (float[B, 3, 4] y) {
            s = Shape <start = 0, end = 1> (x)  b = Squeeze (s)  r = Range (zero, b, one)  f = Cast <to = 1> (r)
            u = Unsqueeze (f, axes)  y = Add (x, u)
        }""", zero=I64(0), one=I64(1), axes=np.array([1, 2], I64),
    )  # fmt: skip
    made, matches = rewritten(static_shapes, model)
    assert matches == 0 and "Range" in ops(made)
    same(model, made)
