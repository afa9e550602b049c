import pytest
from graphs import apply, f32, graph, i64, ops, rewritten

NAME = "remove_expansions"


def expanded(lines, out="batch, 4", opset=22, **weights):
    text = f"(float[batch, 4] x) => (float[{out}] y) {{ n = Neg (x)\n {lines} }}"
    used = {k: v for k, v in ({"row": f32(4), "one": f32(1, 1)} | weights).items() if k in lines}
    return graph(text, opset, **used)


OF_SHAPE = "s = Shape (x)\n e = Expand (row, s)\n"
FOUND = {
    "to the other operand's shape": OF_SHAPE + "y = Add (n, e)",
    "the first operand": OF_SHAPE + "y = Sub (e, n)",
    "a number": "s = Shape (x)\n e = Expand (one, s)\n y = Mul (n, e)",
    "a column of the data": "s = Shape (x)\n m = ReduceMax (x, axis)\n e = Expand (m, s)\n y = Div (n, e)",
    "to fewer axes": "e = Expand (one, four)\n y = Max (n, e)",
    "to what it is": "s = Shape (x)\n e = Expand (x, s)\n y = Pow (n, e)",
    "beside a condition": OF_SHAPE + "c = Less (x, row)\n y = Where (c, n, e)",
}


@pytest.mark.parametrize("case", FOUND)
def test_an_operand_is_read_before_its_expand(case):
    after = rewritten(NAME, expanded(FOUND[case], axis=i64(1), four=i64(4)), 1)
    assert "Expand" not in ops(after)


def test_opset_17():
    assert "Expand" not in ops(rewritten(NAME, expanded(FOUND["the first operand"], opset=17), 1))


def test_both_operands_where_each_brings_an_axis():
    """(batch, 1) and (4): neither needs its Expand while the other one has its axis."""
    lines = """m = ReduceMax <keepdims = 1> (x, axis)
        s = Shape (x)
        a = Expand (m, s)
        b = Expand (row, s)
        y = Add (a, b)"""
    assert "Expand" not in ops(rewritten(NAME, expanded(lines, axis=i64(1)), 2))


def test_of_two_alike_one_brings_the_batch():
    lines = "s = Shape (x)\n a = Expand (row, s)\n b = Expand (row, s)\n y = Add (a, b)"
    assert ops(rewritten(NAME, expanded(lines), 1)).count("Expand") == 1


def test_one_expand_of_which_one_reader_needs_it():
    lines = OF_SHAPE + "a = Add (n, e)\n b = Exp (e)\n y = Sub (a, b)"
    after = rewritten(NAME, expanded(lines), 1)
    assert ops(after).count("Expand") == 1


REFUSED = {
    "a larger result": ("e = Expand (n, to)\n y = Add (e, row)", "3, batch, 4", {"to": i64(3, 1, 1)}),
    "more rows than the other operand": ("s = Shape (x)\n e = Expand (one, s)\n y = Add (e, row)", "batch, 4", {}),
    "no elementwise operator": (OF_SHAPE + "y = Concat <axis = 1> (n, e)", "batch, 8", {}),
    "a product": ("e = Expand (n, to)\n y = MatMul (e, w)", "2, batch, 4", {"to": i64(2, 1, 1), "w": f32(4, 4)}),
    "a rank of its own": ("e = Expand (row, to)\n y = Add (n, e)", "1, batch, 4", {"to": i64(1, 1, 1)}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    lines, out, weights = REFUSED[case]
    model = expanded(lines, out, **weights)
    assert "Expand" in ops(rewritten(NAME, model, 0))


def test_refused_an_expand_that_expands_at_some_batches_only():
    """max(40 - batch, 1) rows: what holds at one batch need not at another."""
    model = graph(
        """(float[batch, 4] x) => (float[n, 4] y) {
            one_row = ReduceMax (x, axis)
            b = Shape <end = 1> (x)
            more = Sub (b, size)
            n = Max (more, one)
            to = Concat <axis = 0> (n, one)
            e = Expand (one_row, to)
            y = Add (e, one_row)
        }""",
        axis=i64(0),
        size=i64(39),
        one=i64(1),
    )
    assert "Expand" in ops(rewritten(NAME, model, 0, batches=(1, 3, 64)))


def test_refused_where_nothing_is_known_of_the_shapes():
    """An operator that no inference knows, before and after: two unknown shapes are not the same."""
    model = graph(
        """(float[batch, 4] x) => (float[k, l, m] y) {
            n = Mystery (x)
            e = Expand (row, to)
            a = Add (n, e)
            y = Mystery (a)
        }""",
        row=f32(4),
        to=i64(7, 1, 4),
    )
    for node in model.graph.node:
        node.domain = "com.example" if node.op_type == "Mystery" else ""
    model.opset_import.add(domain="com.example", version=1)
    matches, after = apply(NAME, model)
    assert matches == 0 and "Expand" in ops(after)


def test_nothing_to_find():
    model = expanded("y = Add (n, row)")
    assert ops(rewritten(NAME, model, 0)) == ["Neg", "Add"]
