import numpy as np
import pytest
from graphs import apply, f32, graph, i64, initializer, ops, rewritten

from exporter.rewrites import fold_constants

NAME = "fold_constants"


@pytest.mark.parametrize("opset", [17, 22])
def test_a_bias_gathered_from_its_table_becomes_one_constant(opset):
    table, index = f32(9, 2), np.arange(16).reshape(4, 4) % 9
    model = graph(
        """(float[batch, 2, 4, 4] x) => (float[batch, 2, 4, 4] y) {
            rows = Gather (table, index)
            bias = Transpose <perm = [2, 0, 1]> (rows)
            y = Add (x, bias)
        }""",
        opset=opset,
        table=table,
        index=index,
    )
    after = rewritten(NAME, model, 2)
    assert ops(after) == ["Add"]
    assert [t.name for t in after.graph.initializer] == ["bias"]
    np.testing.assert_array_equal(initializer(after, "bias"), table[index].transpose(2, 0, 1))


def test_half_precision_nan_and_minus_zero_survive():
    constant = np.array([np.nan, -0.0, np.inf, 65504], np.float16)
    model = graph(
        """(float16[batch, 4] x) => (float16[batch, 4] y) {
            flipped = Neg (c)
            y = Mul (x, flipped)
        }""",
        c=constant,
    )
    after = rewritten(NAME, model, 1)
    assert initializer(after, "flipped").tobytes() == (-constant).tobytes()


def test_constant_nodes_and_what_is_computed_from_them():
    model = graph("""(float[batch, 2] x) => (float[batch, 2] y) {
        one = Constant <value = float[2] {1.5, 2.5}> ()
        two = Constant <value = float[2] {3, 4}> ()
        sum = Add (one, two)
        y = Mul (x, sum)
    }""")
    assert ops(rewritten(NAME, model, 3)) == ["Mul"]


def test_an_output_that_depends_on_no_input():
    model = graph("(float[batch, 2] x) => (float[batch, 2] y, float[2] z) { z = Neg (c)\n y = Add (x, c) }", c=f32(2))
    after = rewritten(NAME, model, 1)
    assert ops(after) == ["Add"] and [o.name for o in after.graph.output] == ["y", "z"]


def test_an_output_that_depends_on_no_input_and_feeds_another():
    model = graph("(float[batch, 2] x) => (float[2] a, float[2] b) { a = Neg (c)\n b = Abs (a) }", c=f32(2))
    rewritten(NAME, model, 2)


@pytest.mark.parametrize("count", [3, 1000])
def test_an_initializer_that_is_an_output_stays(count):
    model = graph(
        f"(float[batch, {count}] x) => (float[{count}] c, float[batch, {count}] y) {{ d = Neg (c)\n y = Add (x, d) }}",
        c=f32(count),
    )
    after = rewritten(NAME, model, 1)
    assert {t.name for t in after.graph.initializer} == {"c", "d"}


def test_refused_what_depends_on_an_input_or_on_its_shape():
    model = graph(
        """(float[batch, 4] x) => (float[batch, 4] y) {
            s = Shape (x)
            rows = Expand (row, s)
            y = Add (x, rows)
        }""",
        row=f32(4),
    )
    assert ops(rewritten(NAME, model, 0)) == ["Shape", "Expand", "Add"]


def test_refused_a_row_expanded_beyond_the_limit(monkeypatch):
    monkeypatch.setattr(fold_constants, "LIMIT", 1000)
    model = graph(
        """(float[batch, 64] x) => (float[batch, 64] y) {
            rows = Expand (row, shape)
            turned = Transpose <perm = [1, 0]> (rows)
            y = MatMul (x, turned)
        }""",
        row=f32(64),
        shape=i64(64, 64),
    )
    assert ops(rewritten(NAME, model, 0)) == ["Expand", "Transpose", "MatMul"]


def test_refused_what_is_computed_from_what_was_refused(monkeypatch):
    monkeypatch.setattr(fold_constants, "LIMIT", 1000)
    model = graph(
        """(float[batch, 64] x) => (float[batch, 64] y) {
            rows = Expand (row, shape)
            top = ReduceMax <keepdims = 0> (rows, axis)
            y = Add (x, top)
        }""",
        row=f32(64),
        shape=i64(64, 64),
        axis=i64(0),
    )
    assert ops(rewritten(NAME, model, 0)) == ["Expand", "ReduceMax", "Add"]


def test_a_row_expanded_up_to_the_limit(monkeypatch):
    monkeypatch.setattr(fold_constants, "LIMIT", 4 * 8 * 64)
    text = "(float[batch, 8, 64] x) => (float[batch, 8, 64] y) { rows = Expand (row, shape)\n y = Add (x, rows) }"
    assert ops(rewritten(NAME, graph(text, row=f32(64), shape=i64(8, 64)), 1)) == ["Add"]


def test_beyond_the_limit_what_only_moves_its_source_is_still_computed(monkeypatch):
    monkeypatch.setattr(fold_constants, "LIMIT", 1000)
    text = "(float[batch, 32, 32] x) => (float[batch, 32, 32] y) { t = Transpose <perm = [1, 0]> (w)\n y = Add (x, t) }"
    assert ops(rewritten(NAME, graph(text, w=f32(32, 32)), 1)) == ["Add"]


def test_refused_random_numbers():
    """They depend on no input, and yet they are no constants."""
    text = "(float[batch, 4] x) => (float[batch, 4] y) { r = RandomNormal <shape = [4]> ()\n y = Add (x, r) }"
    model = graph(text, opset=17)  # ONNX Runtime runs it in opset 17 and not in 22
    matches, after = apply(NAME, model)
    assert matches == 0 and ops(after) == ["RandomNormal", "Add"]


def test_nodes_that_only_were_dead_are_no_matches():
    model = graph("(float[batch, 4] x) => (float[batch, 4] y) { dead = Exp (x)\n y = Add (x, c) }", c=f32(4))
    matches, after = apply(NAME, model)
    assert matches == 0 and ops(after) == ["Add"]


def test_a_condition_that_is_constant_takes_no_nodes_away_that_are_not_there():
    """A branch of three nodes in the place of one If: the count is of nodes computed away, never negative."""
    branch = """{ a = Add (x, c)
                  b = Mul (a, c)
                  r = Sub (b, c) }"""
    model = graph(
        f"""(float[batch, 4] x) => (float[batch, 4] y) {{
            y = If (yes) <then_branch = then () => (float[batch, 4] r) {branch},
                          else_branch = other () => (float[batch, 4] r2) {{ r2 = Identity (x) }}>
        }}""",
        yes=np.array(True),
        c=f32(4),
    )
    matches, _ = apply(NAME, model)
    assert matches >= 0


def test_nothing_to_find():
    model = graph("(float[batch, 4] x) => (float[batch, 4] y) { y = Add (x, c) }", c=f32(4))
    assert ops(rewritten(NAME, model, 0)) == ["Add"]
