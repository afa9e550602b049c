"""What happens to scores is a scale and a bias, whatever steps it takes."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graphs import f32, graph, i64
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import scores
from exporter.datafree import DataFree
from exporter.errors import Refusal
from exporter.rewriting import shapes_of

OPERANDS = {
    "number": np.float32(0.5),
    "row": f32(3),
    "table": f32(3, 3, seed=1),
    "heads": f32(2, 1, 1, seed=2),
    "deep": f32(1, 2, 3, 3, seed=3),
}
ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}


def steps(lines, **weights):
    text = "(float[batch, 2, 3, 4] q, float[batch, 2, 4, 3] k) => (float[batch, 2, 3, 3] y) "
    model = graph(f"{text} {{ d = MatMul (q, k)\n {lines}\n y = Softmax (s) }}", **OPERANDS | weights)
    surgery = gs.import_onnx(model)
    shapes = shapes_of(model)
    return scores.steps(surgery.outputs[0].inputs[0].inputs[0], DataFree(surgery, shapes), shapes)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from([*ARITHMETIC]), st.sampled_from([*OPERANDS]), st.booleans()), min_size=1, max_size=5
    )
)
def test_steps_are_a_scale_and_a_bias(chain):
    """Run on scores of its own, every drawn chain is scale * scores + bias."""
    x = due = np.float64(f32(2, 2, 3, 3, seed=9))
    lines, name = [], "d"
    for i, (op, operand, first) in enumerate(chain):
        first = first and op != "Div"
        pair = (operand, name) if first else (name, operand)
        made = "s" if i == len(chain) - 1 else f"t{i}"
        lines.append(f"{made} = {op} ({', '.join(pair)})")
        value = np.float64(OPERANDS[operand])
        due = ARITHMETIC[op](value, due) if first else ARITHMETIC[op](due, value)
        name = made
    found = steps("\n".join(lines))
    made = found.scale * x + (0 if found.bias is None else found.bias)
    np.testing.assert_allclose(made, due, rtol=1e-4, atol=1e-4 * np.abs(due).max())
    assert (found.bias is None) == all(op in ("Mul", "Div") for op, *_ in chain)


def test_a_scale_does_not_lose_digits_to_a_large_bias():
    found = steps("a = Mul (d, number)\n s = Add (a, low)", low=np.full((3, 3), -1e30, np.float32))
    assert (found.scale == 0.5).all() and (found.bias == np.float32(-1e30)).all()


def test_nothing_between_product_and_softmax():
    found = steps("s = Reshape (d, same)", same=i64(-1, 2, 3, 3))
    assert found.product.op == "MatMul" and found.bias is None and (found.scale == 1).all()


CAUSAL = np.tril(np.ones((3, 3), bool))


@pytest.mark.parametrize("low", [-np.inf, np.finfo(np.float32).min, -1e9])
@pytest.mark.parametrize("line", ["s = Where (seen, a, low)", "s = Where (unseen, low, a)"])
def test_a_causal_mask_is_a_bias_that_every_type_has(line, low):
    masks = {"seen": CAUSAL, "unseen": ~CAUSAL, "low": np.float32(low)}
    found = steps(f"m = Mul (d, number)\n a = Add (m, table)\n {line}", **masks)
    assert (found.scale == 0.5).all()
    expected = np.where(CAUSAL, OPERANDS["table"], np.float32(scores.HIDDEN))
    np.testing.assert_array_equal(found.bias, np.broadcast_to(expected, (2, 2, 3, 3)))
    assert np.isfinite(found.bias.astype(np.float16)).all()


@pytest.mark.parametrize(
    "lines, says",
    [
        ("s = Where (seen, d, row)", "that a softmax may see"),
        ("a = Where (seen, d, low)\n s = Mul (a, tiny)", "that a softmax may see"),
        ("s = Where (none, d, low)", "hides every key"),
        ("f = ReduceMin <keepdims = 0> (q)\n h = Greater (f, row)\n s = Where (h, d, low)", "depends on the input"),
        ("s = Div (number, d)", "depends on the input"),
        ("s = Mul (d, d)", "depends on the input"),
        ("s = Relu (d)", "depends on the input"),
        ("a = Div (d, zero)\n s = Add (a, row)", "not finite"),
        ("s = Add (d, nan)", "not finite"),
        ("e = Neg (d)\n s = Add (d, row)", "other readers"),
        ("a = Reshape (d, flat)\n b = Mul (a, number)\n s = Reshape (b, back)", "mixes the tokens"),
    ],
)
def test_refused(lines, says):
    weights = {"seen": CAUSAL, "none": np.zeros(3, bool), "low": np.float32(-1e9), "tiny": np.float32(1e-9)}
    weights |= {"zero": np.float32(0), "nan": np.float32(np.nan), "flat": i64(-1, 2, 9), "back": i64(-1, 2, 3, 3)}
    with pytest.raises(Refusal, match=says):
        steps(lines, **weights)
