import numpy as np
import pytest
from graphs import apply, f32, graph, i64, initializer, ops, rewritten

NAME = "static_shapes"

WINDOWS = """(float[batch, 4, 6] x) => (float[n, 2, 6] y) {
    s = Shape (x)
    b = Gather (s, zero)
    rows = Mul (b, two)
    target = Concat <axis = 0> (rows, two, six)
    y = Reshape (x, target)
}"""


def windows(**options):
    return graph(WINDOWS, zero=i64(0), two=i64(2), six=i64(6), **options)


@pytest.mark.parametrize("opset", [17, 22])
def test_shape_arithmetic_of_an_exporter_becomes_one_constant(opset):
    after = rewritten(NAME, windows(opset=opset), 1)
    assert ops(after) == ["Reshape"]
    assert initializer(after, after.graph.node[0].input[1]).tolist() == [-1, 2, 6]


def test_a_half_precision_graph():
    half = WINDOWS.replace("float[", "float16[")
    after = rewritten(NAME, graph(half, zero=i64(0), two=i64(2), six=i64(6)), 1)
    assert ops(after) == ["Reshape"]


def test_a_varying_axis_that_is_not_the_first():
    model = graph(
        """(float[batch, 4] x) => (float[2, n] y) {
            s = Shape (x)
            b = Gather (s, zero)
            half = Mul (b, two)
            target = Concat <axis = 0> (two, half)
            y = Reshape (x, target)
        }""",
        zero=i64(0),
        two=i64(2),
    )
    after = rewritten(NAME, model, 1)
    assert initializer(after, after.graph.node[0].input[1]).tolist() == [2, -1]


def test_the_batch_as_a_scalar_is_followed_through_unsqueeze():
    model = graph(
        """(float[batch, 2, 3] x) => (float[n, 6] y) {
            b = Shape <start = 0, end = 1> (x)
            scalar = Squeeze (b, axis)
            again = Unsqueeze (scalar, axis)
            target = Concat <axis = 0> (again, six)
            y = Reshape (x, target)
        }""",
        axis=i64(0),
        six=i64(6),
    )
    assert ops(rewritten(NAME, model, 1)) == ["Reshape"]


def test_each_reading_of_a_value_that_does_not_depend_on_the_batch_is_counted():
    model = graph(
        """(float[batch, 6] x) => (float[n, 2] y) {
            s = Shape <start = 1> (x)
            two = Div (s, three)
            target = Concat <axis = 0> (free, two)
            y = Reshape (x, target)
        }""",
        three=i64(3),
        free=i64(-1),
    )
    after = rewritten(NAME, model, 3)  # s, two and target
    assert ops(after) == ["Reshape"]
    assert initializer(after, after.graph.node[0].input[1]).tolist() == [-1, 2]


def test_slice_bounds_and_a_range_over_a_fixed_axis_become_constants():
    model = graph(
        """(float[batch, 6] x) => (float[batch, m] y, float[batch, 6] z) {
            w = Shape <start = 1> (x)
            half = Div (w, two)
            part = Slice (x, half, w, one)
            y = Identity (part)
            scalar = Squeeze (w)
            index = Range (zero, scalar, step)
            z = Gather <axis = 1> (x, index)
        }""",
        two=i64(2),
        one=i64(1),
        zero=np.array(0),
        step=np.array(1),
    )
    after = rewritten(NAME, model, 6)  # w three times, half, scalar, index
    assert sorted(ops(after)) == ["Gather", "Identity", "Slice"]


@pytest.mark.parametrize("allowzero, target, matches", [(0, "zero, wide", 3), (1, "free, wide", 3)])
def test_zeros_and_allowzero_keep_their_meaning(allowzero, target, matches):
    model = graph(
        f"""(float[batch, 4, 6] x) => (float[n, 24] y) {{
            c = Shape <start = 2> (x)
            wide = Mul (c, four)
            target = Concat <axis = 0> ({target})
            y = Reshape <allowzero = {allowzero}> (x, target)
        }}""",
        zero=i64(0),
        free=i64(-1),
        four=i64(4),
    )
    assert ops(rewritten(NAME, model, matches)) == ["Reshape"]


def test_a_zero_whose_row_count_is_computed():
    """The 0 copies axis 1 and the batch is computed: only axis 0 varies."""
    model = graph(
        """(float[batch, 4, 6] x) => (float[n, 4, 2, 3] y) {
            b = Shape <end = 1> (x)
            target = Concat <axis = 0> (b, rest)
            y = Reshape (x, target)
        }""",
        rest=i64(0, 2, 3),
    )
    after = rewritten(NAME, model, 1)
    assert initializer(after, after.graph.node[0].input[1]).tolist() == [-1, 4, 2, 3]


def test_refused_a_target_in_which_two_axes_vary():
    model = graph("""(float[batch, 4] x) => (float[m, n] y) {
        b = Shape <end = 1> (x)
        flipped = Transpose (x)
        square = MatMul (x, flipped)
        target = Concat <axis = 0> (b, b)
        y = Reshape (square, target)
    }""")
    assert "Concat" in ops(rewritten(NAME, model, 0))


def test_refused_an_axis_of_size_0():
    model = graph(
        """(float[batch, 4, 6] x) => (float[m, k] y) {
            none = Slice (x, zero, zero, one)
            b = Shape <end = 1> (x)
            target = Concat <axis = 0> (b, zero)
            y = Reshape <allowzero = 1> (none, target)
        }""",
        zero=i64(0),
        one=i64(1),
    )
    assert "Concat" in ops(rewritten(NAME, model, 0))


def test_refused_bounds_and_targets_that_depend_on_the_data():
    model = graph(
        """(float[batch, 4] x) => (float[batch, m] y, float[k, l] z) {
            top = ArgMax <axis = 0, keepdims = 0> (x)
            some = Gather (top, zero)
            y = Slice (x, some, far, one)
            hits = NonZero (x)
            shape = Shape (hits)
            whole = Cast <to = 1> (hits)
            z = Reshape (whole, shape)
        }""",
        zero=i64(0),
        far=i64(9),
        one=i64(1),
    )
    rewritten(NAME, model, 0)


def test_refused_rows_that_are_counted_by_the_batch():
    model = graph(
        """(float[batch, 4] x) => (float[batch, 4] y) {
            b = Shape <end = 1> (x)
            scalar = Squeeze (b)
            index = Range (zero, scalar, one)
            last = Sub (scalar, one)
            back = Sub (last, index)
            y = Gather (x, back)
        }""",
        zero=np.array(0),
        one=np.array(1),
    )
    assert "Range" in ops(rewritten(NAME, model, 0))


@pytest.mark.parametrize("op, size", [("Min", 2), ("Max", 40)])
def test_refused_a_value_that_is_equal_at_most_batches_but_not_at_all(op, size):
    model = graph(
        f"""(float[batch, 4] x) => (float[n, 4] y) {{
            b = Shape <end = 1> (x)
            n = {op} (b, size)
            pads = Concat <axis = 0> (zeros, n, zero)
            y = Pad (x, pads)
        }}""",
        size=i64(size),
        zeros=i64(0, 0),
        zero=i64(0),
    )
    rewritten(NAME, model, 0, batches=(1, 3, 64))


def test_refused_an_output_whose_rank_is_the_batch():
    model = graph("""(float[batch, 4] x) => (float y) {
        b = Shape <end = 1> (x)
        ones = ConstantOfShape <value = int64[1] {1}> (b)
        sum = ReduceSum (x)
        many = Reshape (sum, ones)
        y = ReduceSum <keepdims = 0> (many)
    }""")
    rewritten(NAME, model, 0)


def test_a_slice_with_a_negative_step_over_shapes():
    model = graph(
        """(float[batch, 4, 6] x) => (float[k, l, n] y) {
            s = Shape (x)
            turned = Slice (s, last, first, axis, back)
            y = Reshape (x, turned)
        }""",
        last=i64(-1),
        first=i64(-9),
        axis=i64(0),
        back=i64(-1),
    )
    after = rewritten(NAME, model, 1)
    assert initializer(after, after.graph.node[0].input[1]).tolist() == [6, 4, -1]


def test_a_computed_tensor_that_is_also_an_output_stays_an_output():
    model = graph(
        """(float[batch, 6] x) => (float[n, 2] y, int64[1] w) {
            w = Shape <start = 1> (x)
            two = Div (w, three)
            target = Concat <axis = 0> (free, two)
            y = Reshape (x, target)
        }""",
        three=i64(3),
        free=i64(-1),
    )
    after = rewritten(NAME, model, 3)
    assert [o.name for o in after.graph.output] == ["y", "w"]


def test_nodes_without_names_do_not_share_their_constants():
    model = graph(
        """(float[batch, 4, 6] x) => (float[n, 6] y, float[m, 3] z) {
            b = Shape <end = 1> (x)
            rows = Mul (b, four)
            more = Mul (b, eight)
            first = Concat <axis = 0> (rows, six)
            second = Concat <axis = 0> (more, three)
            y = Reshape (x, first)
            z = Reshape (x, second)
        }""",
        four=i64(4),
        six=i64(6),
        eight=i64(8),
        three=i64(3),
    )
    for node in model.graph.node:
        node.name = ""
    rewritten(NAME, model, 2)


def test_a_static_batch_leaves_no_free_axis():
    model = windows()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 5
    after = rewritten(NAME, model, 4, batches=(5,))  # s, b, rows and target
    assert initializer(after, after.graph.node[-1].input[1]).tolist() == [10, 2, 6]


def test_nothing_to_find():
    model = graph("(float[batch, 4] x) => (float[batch, 4] y) { y = Add (x, c) }", c=f32(4))
    matches, after = apply(NAME, model)
    assert matches == 0 and ops(after) == ["Add"]
