import numpy as np
import pytest
from graphs import apply, f32, graph, i64, initializer, ops, rewritten

NAME = "fold_data_free"
BATCH = "b = Shape <end = 1> (x)\n"


def free(lines, out="batch, 5, 6", opset=22, **weights):
    text = f"{{ {lines} }}"
    used = {k: v for k, v in weights.items() if k in text}
    return graph(f"(float[batch, 5, 6] x) => (float[{out}] y) {text}", opset, **used)


FOUND = {
    "a table expanded to the batch": BATCH
    + "to = Concat <axis = 0> (b, ones)\n e = Expand (table, to)\n y = Add (x, e)",
    "ones of the batch": BATCH + "to = Concat <axis = 0> (b, size)\n o = ConstantOfShape (to)\n s = CumSum (o, axis)\n"
    "c = Cos (s)\n y = Mul (x, c)",
    "an operand that is left out": BATCH
    + "to = Concat <axis = 0> (b, ones)\n e = Expand (table, to)\n c = Clip (e, , most)\n y = Add (x, c)",
    "a condition": BATCH + "to = Concat <axis = 0> (b, ones)\n e = Expand (yes, to)\n y = Where (e, x, table)",
    "a table of the shape": "s = Shape <start = 1, end = 2> (x)\n n = Squeeze (s)\n r = Range (zero, n, one)\n"
    "f = Cast <to = 1> (r)\n u = Unsqueeze (f, last)\n y = Add (u, x)",
    "a computed number": "s = Size (table)\n f = Cast <to = 1> (s)\n y = Div (x, f)",
}
VALUES = {
    "ones": i64(5, 1),
    "size": i64(5, 6),
    "table": f32(5, 1),
    "yes": np.array([[True], [False]] * 2 + [[True]]),
    "axis": np.int64(1),
    "zero": np.int64(0),
    "one": np.int64(1),
    "most": np.float32(0.5),
    "last": i64(1),
}


@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize("case", FOUND)
def test_what_no_pixel_reaches_is_a_constant(case, opset):
    after = rewritten(NAME, free(FOUND[case], opset=opset, **VALUES), 1)
    assert len(ops(after)) == 1


def test_one_value_for_all_images_has_one_for_its_batch_axis():
    after = rewritten(NAME, free(FOUND["a table expanded to the batch"], **VALUES), 1)
    assert initializer(after, "e/folded").shape == (1, 5, 1)


def test_two_readers_share_one_constant():
    lines = FOUND["a table expanded to the batch"].replace("y =", "a =") + "\n y = Mul (a, e)"
    after = rewritten(NAME, free(lines, **VALUES), 2)
    assert len(after.graph.initializer) == 1


REFUSED = {
    "images that are counted": BATCH + "n = Squeeze (b)\n r = Range (zero, n, one)\n f = Cast <to = 1> (r)\n"
    "u = Unsqueeze (f, both)\n y = Add (x, u)",
    "the number of images": BATCH + "f = Cast <to = 1> (b)\n y = Div (x, f)",
    "data": "m = ReduceMax <keepdims = 1> (x)\n y = Sub (x, m)",
    "no elementwise reader": BATCH + "to = Concat <axis = 0> (b, ones)\n e = Expand (table, to)\n"
    "y = Concat <axis = 2> (x, e)",
    "windows of all images": BATCH + "w = Mul (b, five)\n to = Concat <axis = 0> (w, six)\n e = Expand (row, to)\n"
    "r = Reshape (x, flat)\n a = Add (r, e)\n y = Reshape (a, back)",
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    more = {
        "both": i64(1, 2),
        "none": np.float32(0),
        "five": i64(5),
        "six": i64(6),
        "row": f32(1, 6),
        "flat": i64(-1, 6),
        "back": i64(-1, 5, 6),
    }
    model = free(REFUSED[case], "batch, 5, k", **VALUES | more)
    assert sorted(ops(rewritten(NAME, model, 0))) == sorted(ops(model))


@pytest.mark.parametrize("coin", ["Bernoulli (z)", "RandomNormalLike (z)", "RandomUniformLike (z)"])
def test_refused_noise(coin):
    lines = BATCH + f"to = Concat <axis = 0> (b, size)\n z = ConstantOfShape (to)\n r = {coin}\n y = Add (x, r)"
    assert apply(NAME, free(lines, **VALUES))[0] == 0


def test_refused_a_constant_that_would_not_bring_the_batch():
    """Both operands come from the shape alone: without their batch axis the result has none."""
    lines = (
        BATCH
        + "to = Concat <axis = 0> (b, ones)\n e = Expand (table, to)\n a = Add (e, e)\n y = Concat <axis = 2> (x, a)"
    )
    assert "Expand" in ops(rewritten(NAME, free(lines, "batch, 5, 7", **VALUES), 0))


def test_refused_where_the_other_operand_has_no_batch():
    lines = (
        BATCH + "to = Concat <axis = 0> (b, ones)\n e = Expand (table, to)\n m = ReduceMax <keepdims = 1> (x, first)\n"
    )
    lines += "a = Add (m, e)\n y = Add (x, a)"
    after = rewritten(NAME, free(lines, **VALUES, first=i64(0)), 0)
    assert "Expand" in ops(after)


def test_refused_an_operand_whose_length_is_the_datas():
    model = graph(
        """(float[batch, 4] x) => (float[k, l] y) {
            hits = NonZero (x)
            f = Cast <to = 1> (hits)
            b = Shape <end = 1> (x)
            to = Concat <axis = 0> (one, one)
            e = Expand (c, to)
            y = Add (f, e)
        }""",
        one=i64(1),
        c=f32(1),
    )
    matches, after = apply(NAME, model)
    assert "Add" in ops(after) and matches in (0, 1)


def test_a_control_flow_that_reads_data_from_outside():
    model = graph(
        """(float[batch, 4] x) => (float[batch, 4] y) {
            c = If (yes) <
                then_branch = a () => (float[batch, 4] p) { p = Abs (x) },
                else_branch = b () => (float[batch, 4] q) { q = Neg (x) }
            >
            y = Add (x, c)
        }""",
        yes=np.array(True),
    )
    assert ops(rewritten(NAME, model, 0)) == ["If", "Add"]


def test_nothing_to_find():
    model = free("y = Exp (x)")
    assert ops(rewritten(NAME, model, 0)) == ["Exp"]
