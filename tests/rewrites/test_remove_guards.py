import numpy as np
import pytest
from graphs import apply, feed, graph, i64, ops, rewritten, run, with_outputs

NAME = "remove_guards"
GUARD = "n = IsNaN (p)\n y = Where (n, zero, p)"


def guarded(scores="s = Mul (d, scale)", guard=GUARD, soft="p = Softmax <axis = -1> (s)", opset=22, **more):
    """Scores of queries and keys, a softmax of them, and a guard."""
    text = f"d = MatMul (q, k)\n {scores}\n {soft}\n {guard}"
    weights = {"zero": np.float32(0), "scale": np.float32(0.5)} | more
    used = {name: value for name, value in weights.items() if f" {name}" in text or f"({name}" in text}
    return graph(f"(float[batch, 3, 4] q, float[batch, 4, 3] k) => (float[batch, 3, 3] y) {{ {text} }}", opset, **used)


MASK = np.where(np.eye(3) > 0, np.float32(-100), np.float32(0))
FINITE = {
    "a scale": "s = Mul (d, scale)",
    "nothing": "s = Div (d, scale)",
    "a finite mask": "m = Mul (d, scale)\n s = Add (m, mask)",
    "the lowest number": "m = Mul (d, scale)\n s = Add (m, low)",
}


@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize("case", FINITE)
def test_a_guard_that_guards_nothing_goes(case, opset):
    low = np.full((3, 3), np.finfo(np.float32).min / 2)
    after = rewritten(NAME, guarded(FINITE[case], opset=opset, mask=MASK, low=low), 1)
    assert not {"Where", "IsNaN"} & set(ops(after))


def test_a_mask_that_is_computed_of_shapes():
    lines = "b = Shape <end = 1> (q)\n to = Concat <axis = 0> (b, ones)\n m = Expand (mask, to)\n s = Add (d, m)"
    rewritten(NAME, guarded(lines, ones=i64(3, 3), mask=MASK[None]), 1)


REFUSED = {
    "a mask of the input": {"scores": "m = ReduceMax <keepdims = 1> (q)\n s = Add (d, m)"},
    "-inf in a mask": {"scores": "s = Add (d, inf)", "inf": np.where(np.eye(3) > 0, -np.inf, 0).astype(np.float32)},
    "a row of -inf": {"scores": "s = Add (d, inf)", "inf": np.full((3, 3), -np.inf, np.float32)},
    "a division by zero": {"scores": "s = Div (d, zero)"},
    "another number than zero": {"guard": "n = IsNaN (p)\n y = Where (n, one, p)", "one": np.float32(1)},
    "a test of something else": {"guard": "n = IsNaN (d)\n y = Where (n, zero, p)"},
    "the other way round": {"guard": "n = IsNaN (p)\n y = Where (n, p, zero)"},
    "a test for infinity": {"guard": "n = IsInf (p)\n y = Where (n, zero, p)"},
    "no softmax": {"soft": "p = Exp (s)"},
    "zeros of a larger shape": {
        "guard": "n = IsNaN (p)\n w = Where (n, zeros, p)\n y = ReduceSum <keepdims = 0> (w, first)",
        "zeros": np.zeros((1, 1, 1, 1), np.float32),
        "first": i64(0),
    },
    "zeros that are computed": {"guard": "z = Sub (p, p)\n n = IsNaN (p)\n y = Where (n, z, p)"},
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    model = guarded(**REFUSED[case])
    assert "Where" in ops(rewritten(NAME, model, 0))


def test_the_guard_of_a_hidden_row_is_needed():
    model = guarded("s = Add (d, inf)", inf=np.full((3, 3), -np.inf, np.float32))
    assert not run(apply(NAME, model)[1], feed(model, 2))["y"].any()


def test_both_the_softmax_and_the_guarded_one_are_outputs():
    after = rewritten(NAME, with_outputs(guarded(), "p"), 1)
    assert [o.name for o in after.graph.output] == ["y", "p"]


def test_a_guarded_softmax_that_is_read_on():
    model = guarded(guard=GUARD.replace("y =", "g =") + "\n y = Mul (g, scale)")
    assert ops(rewritten(NAME, model, 1)) == ["MatMul", "Mul", "Softmax", "Mul"]


def test_a_softmax_over_another_axis_is_finite_as_well():
    rewritten(NAME, guarded(soft="p = Softmax <axis = 1> (s)"), 1)


def test_nothing_to_find():
    model = graph("(float[batch, 4] x) => (float[batch, 4] y) { y = Softmax (x) }")
    assert ops(rewritten(NAME, model, 0)) == ["Softmax"]
