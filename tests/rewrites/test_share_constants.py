import numpy as np
import pytest
from graphs import f32, graph, i64, initializer, rewritten

NAME = "share_constants"


def sums(kind: str, opset=22, **constants):
    """x plus each constant in turn."""
    lines, last = [], "x"
    for i, name in enumerate(constants):
        result = "y" if i == len(constants) - 1 else f"t{i}"
        lines.append(f"{result} = Add ({last}, {name})")
        last = result
    return graph(f"({kind}[batch, 4] x) => ({kind}[batch, 4] y) {{ {' '.join(lines)} }}", opset=opset, **constants)


def names(model):
    return sorted(t.name for t in model.graph.initializer)


@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize("kind, dtype", [("float", np.float32), ("float16", np.float16), ("double", np.float64)])
def test_equal_constants_are_stored_once(kind, dtype, opset):
    value = f32(4).astype(dtype)
    after = rewritten(NAME, sums(kind, opset, a=value, b=value.copy(), c=value + dtype(1), d=value.copy()), 2)
    assert names(after) == ["a", "c"]
    assert [n.input[1] for n in after.graph.node] == ["a", "a", "c", "a"]


def test_a_constant_that_two_nodes_read_is_counted_once():
    model = graph(
        "(float[batch, 4] x) => (float[batch, 4] y) { s = Add (x, a)\n t = Add (s, b)\n y = Mul (t, b) }",
        a=f32(4),
        b=f32(4),
    )
    assert names(rewritten(NAME, model, 1)) == ["a"]


def test_both_inputs_of_one_node():
    model = graph("(float[batch, 4] x) => (float[batch, 4] y) { s = Add (a, b)\n y = Add (x, s) }", a=f32(4), b=f32(4))
    after = rewritten(NAME, model, 1)
    assert list(after.graph.node[0].input) == ["a", "a"]


def test_constants_of_nan_are_equal_where_their_bytes_are():
    one, other = np.full(4, np.nan, np.float32), np.full(4, np.nan, np.float32)
    other.view(np.uint32)[:] += 1  # a NaN with another payload
    assert names(rewritten(NAME, sums("float", a=one, b=one.copy(), c=other), 1)) == ["a", "c"]


def test_refused_zeros_of_another_sign():
    model = sums("float", a=np.zeros(4, np.float32), b=-np.zeros(4, np.float32))
    assert np.signbit(initializer(rewritten(NAME, model, 0), "b")).all()


def test_refused_equal_bytes_in_another_shape_or_type():
    ones = np.full(4, 1, np.int32)
    model = graph(
        """(float[batch, 4] x) => (float[batch, 4] y, float[batch, 4] z, float[batch, 4] v) {
            y = Add (x, flat)
            z = Add (x, row)
            i = Cast <to = 1> (ints)
            v = Add (x, i)
        }""",
        flat=ones.view(np.float32),
        row=ones.view(np.float32).reshape(1, 4),
        ints=ones,
    )
    assert names(rewritten(NAME, model, 0)) == ["flat", "ints", "row"]


@pytest.mark.parametrize("first, second", [("shown", "hidden"), ("hidden", "shown")])
def test_an_initializer_that_is_an_output_keeps_its_name(first, second):
    model = graph(
        f"(float[batch, 4] x) => (float[batch, 4] y, float[4] shown) {{ t = Add (x, {first})\n"
        f" y = Mul (t, {second}) }}",
        shown=f32(4),
        hidden=f32(4),
    )
    after = rewritten(NAME, model, 1)
    assert [o.name for o in after.graph.output] == ["y", "shown"]


def test_shapes_and_axes_of_other_operators_are_shared_too():
    model = graph(
        """(float[batch, 4] x) => (float[n, 2] y) {
            t = Unsqueeze (x, one)
            u = Squeeze (t, also)
            y = Reshape (u, shape)
        }""",
        one=i64(1),
        also=i64(1),
        shape=i64(-1, 2),
    )
    assert names(rewritten(NAME, model, 1)) == ["one", "shape"]


def test_nothing_to_find():
    rewritten(NAME, sums("float", a=f32(4), b=f32(4, seed=1)), 0)
