from collections import Counter

import numpy as np
import pytest
from graphs import apply, assert_close, f32, graph, i64, ops, rewritten, with_outputs
from hypothesis import given, settings
from hypothesis import strategies as st
from windows import Builder, block, merging, partition, reverse, roll, swin

NAME = "cancel_permutations"
HOW = ["reshape", "slices", "gather"]
MOVERS = {"Transpose", "Gather", "Slice", "Concat", "Split", "Squeeze", "Unsqueeze"}
few = settings(deadline=None, max_examples=15, derandomize=True)


def movers(model):
    return sum(op in MOVERS for op in ops(model))


@pytest.mark.parametrize("end", ["mean", "tokens"])
@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize("how", HOW)
def test_windows_that_shift_cost_one_permutation_where_the_order_changes(how, opset, end):
    model = swin((4, 8), (2, 2), (1, 1), how, end=end, opset=opset)
    after = rewritten(NAME, model, 5, close=True)
    assert movers(after) == 3  # into the windows, into the shifted ones, out of these for the merging
    assert ops(after).count("Gather") == movers(after)


def test_the_same_graph_whoever_wrote_it():
    made = {how: apply(NAME, swin((4, 8), (2, 4), (1, 2), how))[1] for how in HOW}
    assert len({tuple(sorted(ops(m))) for m in made.values()}) == 1


@few
@given(data=st.data())
def test_drawn_windows(data):
    window = data.draw(st.tuples(*[st.sampled_from([1, 2, 3, 4])] * 2), "window")
    size = tuple(w * data.draw(st.integers(1, 3), "windows") * (2 if w % 2 else 1) for w in window)
    shift = tuple(data.draw(st.integers(0, w - 1), "shift") for w in window)
    how = data.draw(st.sampled_from(HOW), "how")
    end, merge = data.draw(st.sampled_from(["mean", "tokens"]), "end"), data.draw(st.booleans(), "merge")
    model = swin(size, window, shift, how, width=3, merge=merge, end=end, depth=data.draw(st.integers(1, 3), "depth"))
    matches, after = apply(NAME, model)
    assert_close(model, after, (1, 3, data.draw(st.integers(2, 5), "batch")))
    again, _ = apply(NAME, swin(size, window, shift, "reshape", width=3, merge=merge, end=end, depth=1))
    assert (matches > 0) >= (again > 0)
    assert movers(after) <= movers(model)


@few
@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from(HOW), st.sampled_from(["reshape", "slices"]))
def test_merging_after_windows_is_no_movement_of_its_own(rows, columns, how, merge_how):
    size = (4 * rows, 4 * columns)
    model = swin(size, (4, 4), (0, 0), how, depth=1, merge_how=merge_how)
    matches, after = apply(NAME, model)
    assert matches >= 1
    assert_close(model, after, (1, 3))
    assert movers(after) <= 2


def test_one_window_is_no_movement():
    model = swin((2, 2), (2, 2), (0, 0), "reshape", merge=False)
    matches, after = apply(NAME, model)
    assert matches == 0 and sorted(ops(after)) == sorted(ops(model))


def test_a_fixed_batch_stays_as_it_is():
    model = swin((4, 4), (2, 2), (1, 1), "reshape")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    after = rewritten(NAME, model, 0, batches=(3,), close=True)
    assert sorted(ops(after)) == sorted(ops(model))


def test_a_fixed_batch_after_the_rewrite():
    from exporter import onnxio

    model = swin((4, 4), (2, 2), (1, 1), "slices", end="tokens")
    after = apply(NAME, model)[1]
    for fixed in (model, after):
        onnxio.fix_batch(fixed, 6)
    onnxio.check(after)
    assert_close(model, after, (6,))


def bare(lines, size=(4, 4), out=None, opset=22):
    """x (B, h, w, 3) -> MatMul -> the lines -> y; ``lines`` gets the builder and the tensor."""
    b = Builder(opset)
    x = b.op("MatMul", "x", f32(3, 3))
    y = lines(b, x)
    ys = y if isinstance(y, list) else [y]
    names = {name: [f"{name}_{i}" for i in range(rank)] for name, rank in ys}
    return b.model({"x": ["batch", *size, 3]}, names)


def test_rows_turned_round_and_back_go_away():
    """Row-wise operators between two movements that cancel."""

    def lines(b, x):
        inner = b.op("Relu", b.norm(x, 3))
        inner = b.op("Tanh", partition(b, inner, (4, 4), (2, 2), 3, "reshape"))
        return b.op("Exp", reverse(b, inner, (4, 4), (2, 2), 3, "gather")), 4

    after = rewritten(NAME, bare(lines), 2, close=True)
    assert movers(after) == 0


@pytest.mark.parametrize("shift", [(1, 0), (0, 3), (-1, 2)])
def test_a_roll_that_an_output_sees_stays_one_gather(shift):
    model = bare(lambda b, x: (roll(b, b.op("Exp", b.norm(x, 3)), shift, (4, 4), "slices"), 4))
    after = rewritten(NAME, model, 1, close=True)
    assert movers(after) == 1


CONSTANTS = {
    "one number": np.float32(2),
    "one number of rank four": f32(1, 1, 1, 1),
    "a number for each column": f32(3),
    "a number for each column, of the data's rank": f32(1, 1, 1, 3),
}


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("op", ["Add", "Mul", "Sub", "Max"])
@pytest.mark.parametrize("case", CONSTANTS)
def test_constants_beside_the_rows(case, op, first):
    def lines(b, x):
        x = roll(b, b.norm(x, 3), (1, 1), (4, 4), "gather")
        x = b.op(op, CONSTANTS[case], x) if first else b.op(op, x, CONSTANTS[case])
        return b.op("Exp", roll(b, x, (-1, -1), (4, 4), "slices")), 4

    after = rewritten(NAME, bare(lines), 2, close=True)
    assert movers(after) == 0


def test_a_number_for_each_token_is_not_for_every_row():
    """Window positions: the same for all images, other ones for each token."""

    def lines(b, x):
        x = roll(b, b.norm(x, 3), (1, 1), (4, 4), "gather")
        x = b.op("Add", x, f32(4, 4, 1))
        return b.op("Exp", roll(b, x, (-1, -1), (4, 4), "gather")), 4

    model = bare(lines)
    _, after = apply(NAME, model)
    assert_close(model, after)
    assert "Gather" in ops(after)


def reduced(b, x, op="ReduceSum", axes=(3,), keepdims=1):
    x = roll(b, b.norm(x, 3), (1, 1), (4, 4), "gather")
    x = b.mean(x, *axes, op=op, keepdims=keepdims)
    return b.op("Exp", roll(b, x, (-1, -1), (4, 4), "gather")), 4


@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize("axes", [(3,), (-1,)])
def test_sums_of_a_row_are_row_wise(opset, axes):
    op = "ReduceMean" if opset == 17 else "ReduceSum"
    after = rewritten(NAME, bare(lambda b, x: reduced(b, x, op, axes), opset=opset), 2, close=True)
    assert movers(after) == 0


def test_sums_of_a_column_are_not():
    def lines(b, x):
        x = roll(b, b.norm(x, 3), (1, 1), (4, 4), "gather")
        x = b.op("Add", x, b.mean(x, 2, keepdims=1))
        return b.op("Exp", roll(b, x, (-1, -1), (4, 4), "gather")), 4

    model = bare(lines)
    _, after = apply(NAME, model)
    assert_close(model, after)
    assert movers(after) >= 2


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax"])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("opset", [17, 22])
def test_an_average_over_all_tokens_takes_any_order(op, keepdims, opset):
    def lines(b, x):
        x = partition(b, b.op("Exp", b.norm(x, 3)), (4, 4), (2, 2), 3, "slices")
        x = reverse(b, b.mix(x, 4, 3), (4, 4), (2, 2), 3, "slices")
        x = b.mean(b.norm(x, 3), 1, 2, op="ReduceMean" if opset == 17 else op, keepdims=keepdims)
        return b.op("Neg", x), 4 if keepdims else 2

    model = bare(lines, opset=opset)
    matches, after = apply(NAME, model)
    assert matches >= 1 and movers(after) <= 1
    assert_close(model, after)


def test_an_average_over_the_batch_is_none_over_tokens():
    def lines(b, x):
        x = roll(b, b.norm(x, 3), (1, 1), (4, 4), "gather")
        return b.op("Neg", b.mean(x, 0, 1, 2)), 1

    model = bare(lines)
    assert_close(model, apply(NAME, model)[1])


REFUSED = {
    "rows that are dropped": lambda b, x: b.op("Slice", x, i64(0), i64(3), i64(1)),
    "rows that are repeated": lambda b, x: b.op("Gather", x, i64(0, 0, 1, 2), axis=1),
    "rows that are padded": lambda b, x: b.op("Pad", x, i64(0, 0, 0, 0, 0, 1, 0, 0)),
    "columns that are exchanged": lambda b, x: b.op("Gather", x, i64(2, 0, 1), axis=3),
    "columns that are dropped": lambda b, x: b.op("Slice", x, i64(0), i64(2), i64(3)),
    "channels first": lambda b, x: b.op("Transpose", x, perm=[0, 3, 1, 2]),
    "an index that the input says": lambda b, x: b.op("Gather", x, index_of(b, x), axis=1),
}


def index_of(b, x):
    return b.op("Cast", b.op("ReduceMax", b.op("Reshape", b.op("Sign", b.op("Abs", x)), i64(-1)), keepdims=1), to=7)


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    model = bare(lambda b, x: (b.op("Exp", REFUSED[case](b, b.op("Tanh", b.norm(x, 3)))), 4))
    after = rewritten(NAME, model, 0)
    assert ops(after) == ops(model)


@pytest.mark.parametrize("case", REFUSED)
def test_refused_between_movements_that_are_matches(case):
    def lines(b, x):
        x = roll(b, b.op("Tanh", b.norm(x, 3)), (1, 2), (4, 4), "gather")
        return b.op("Exp", REFUSED[case](b, b.op("Tanh", x))), 4

    model = bare(lines)
    matches, after = apply(NAME, model)
    assert matches >= 1
    assert_close(model, after)


def test_a_tensor_in_two_orders_that_are_both_read():
    """A difference to the left neighbour: one stream, two orders, which do not meet without a conversion."""

    def lines(b, x):
        x = b.op("Tanh", b.norm(x, 3))
        return b.op("Exp", b.op("Sub", x, roll(b, x, (0, 1), (4, 4), "slices"))), 4

    model = bare(lines)
    matches, after = apply(NAME, model)
    assert_close(model, after)
    assert matches == 1


def test_readers_of_the_tensor_before_its_movement_are_served():
    """A softmax reads it early, a softmax over other axes reads the rolled one late."""

    def lines(b, x):
        x = b.op("Tanh", b.norm(x, 3))
        early = b.op("Softmax", x, axis=1)
        late = b.op("Softmax", roll(b, x, (0, 1), (4, 4), "slices"), axis=1)
        return [(early, 4), (late, 4)]

    after = rewritten(NAME, bare(lines), 1, close=True)
    assert ops(after).count("LayerNormalization") == 1 and ops(after).count("Tanh") == 1


def test_movement_that_stays_reads_the_stream_as_it_is_now():
    """A class token beside the rolled ones, and rows of the two rolled again."""

    def lines(b, x):
        x = b.op("Reshape", roll(b, b.op("Tanh", b.norm(x, 3)), (1, 1), (4, 4), "slices"), i64(-1, 16, 3))
        first = b.op("Reshape", b.mean(x, 1), i64(-1, 1, 3))
        both = b.op("Exp", b.op("Concat", first, x, axis=1))
        turned = b.op("Gather", both, np.arange(17)[::-1].copy(), axis=1)
        return b.op("Neg", b.op("Gather", b.op("Tanh", turned), np.arange(17)[::-1].copy(), axis=1)), 3

    model = bare(lines)
    matches, after = apply(NAME, model)
    assert matches == 3
    assert_close(model, after)
    assert ops(after).count("LayerNormalization") == 1


def test_outputs_on_the_way():
    model = swin((4, 4), (2, 2), (1, 1), "reshape", end="tokens")
    names = [n.output[0] for n in model.graph.node if n.op_type in ("LayerNormalization", "Transpose", "Add")][:9]
    after = rewritten(NAME, with_outputs(model, *names), 8, close=True)  # three of them are movement
    assert [o.name for o in after.graph.output][1:] == names


def test_tokens_in_rows_of_all_images():
    """(N B, C), positions outermost: which image a row belongs to depends on the batch."""
    model = graph(
        """(float[batch, 4, 3] x) => (float[batch, 4, 3] y) {
            m = MatMul (x, w)
            e = Exp (m)
            t = Transpose <perm = [1, 0, 2]> (e)
            r = Reshape (t, flat)
            l = Tanh (r)
            b = Reshape (l, back)
            u = Transpose <perm = [1, 0, 2]> (b)
            y = Neg (u)
        }""",
        w=f32(3, 3),
        flat=i64(-1, 3),
        back=i64(4, -1, 3),
    )
    matches, after = apply(NAME, model)
    assert_close(model, after)
    assert matches == 2 and movers(after) == 0


def test_a_matrix_of_rows_whose_images_cannot_be_told():
    """A stream that begins as (N B, C): at a batch of two its rows look like another order."""
    model = graph(
        """(float[batch, 4, 3] x) => (float[batch, 4, 3] y) {
            t = Transpose <perm = [1, 0, 2]> (x)
            r = Reshape (t, flat)
            m = MatMul (r, w)
            l = Tanh (m)
            b = Reshape (l, back)
            u = Transpose <perm = [1, 0, 2]> (b)
            y = Neg (u)
        }""",
        w=f32(3, 3),
        flat=i64(-1, 3),
        back=i64(4, -1, 3),
    )
    matches, after = apply(NAME, model)
    assert matches == 0
    assert_close(model, after)


def test_patch_merging_of_two_streams_that_meet():
    def lines(b, x):
        left, right = b.op("Tanh", b.norm(x, 3)), b.op("Relu", x)
        left = roll(b, roll(b, left, (1, 1), (4, 4), "gather"), (-1, -1), (4, 4), "slices")
        x = b.op("Mul", left, right)
        x = b.norm(merging(b, x, (4, 4), 3, "slices"), 12)
        return b.op("Softmax", x, axis=1), 3

    model = bare(lines)
    matches, after = apply(NAME, model)
    assert matches == 1
    assert_close(model, after)
    assert movers(after) == 1  # the merging's own


def test_half_precision_and_more_than_one_operand_of_the_same_tensor():
    def lines(b, x):
        x = roll(b, b.norm(x, 3), (1, 1), (4, 4), "gather")
        x = b.op("Mul", x, x)
        return b.op("Exp", roll(b, x, (-1, -1), (4, 4), "gather")), 4

    assert movers(rewritten(NAME, bare(lines), 2, close=True)) == 0


def test_two_blocks_of_one_model_after_the_rewrite_again():
    """A second run finds what the first one left, and nothing more to win."""
    once = apply(NAME, swin((4, 8), (2, 2), (1, 1), "reshape"))[1]
    _, twice = apply(NAME, once)
    assert_close(once, twice)
    assert movers(twice) == movers(once)


def test_nothing_to_find():
    model = graph("(float[batch, 4] x) => (float[batch, 4] y) { y = Exp (x) }")
    assert ops(rewritten(NAME, model, 0)) == ["Exp"]


def test_a_block_keeps_its_names():
    b = Builder()
    y = block(b, b.op("MatMul", "x", f32(4, 4)), (4, 4), (2, 2), (1, 1), 4, "slices")
    model = b.model({"x": ["batch", 4, 4, 4]}, {y: ["batch", 4, 4, 4]})
    after = rewritten(NAME, model, 2, close=True)
    assert {n.name.split("/")[0] for n in after.graph.node} == {"blocks.0"}
    kept = {op: ops(model).count(op) for op in ("MatMul", "LayerNormalization", "Relu", "Add")}
    assert Counter(ops(after)) & Counter(kept) == Counter(kept)
