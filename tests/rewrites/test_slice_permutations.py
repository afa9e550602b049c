"""Gathers of 6 x 9 tokens: windows of 3 x 3, shifted by one row and two columns."""

import numpy as np
import pytest
from graphs import apply, graph, i64, ops, rewritten

NAME = "slice_permutations"
GRID = np.arange(54).reshape(6, 9)
WINDOWS = GRID.reshape(2, 3, 3, 3).transpose(0, 2, 1, 3).reshape(-1)
SHIFTED = np.roll(GRID, (-1, -2), (0, 1)).reshape(-1)[WINDOWS]


def gathered(index, axis=1, shape="batch, 54, 4", out=None):
    text = f"(float[{shape}] x) => (float[{out or shape}] y) {{ g = Gather <axis = {axis}> (x, index) y = Neg (g) }}"
    return graph(text, index=index)


def test_a_partition_is_one_transpose():
    found = ops(rewritten(NAME, gathered(WINDOWS), 1))
    assert "Gather" not in found and found.count("Transpose") == 1 and "Concat" not in found


def test_a_shift_is_two_concatenations():
    found = ops(rewritten(NAME, gathered(SHIFTED), 1))
    assert [found.count(op) for op in ("Gather", "Transpose", "Concat", "Slice")] == [0, 1, 2, 4]


def test_from_windows_to_shifted_windows():
    found = ops(rewritten(NAME, gathered(np.argsort(WINDOWS)[SHIFTED]), 1))
    assert [found.count(op) for op in ("Gather", "Transpose", "Concat")] == [0, 2, 2]


def test_indices_from_the_end_and_of_32_bits():
    assert "Gather" not in ops(rewritten(NAME, gathered(WINDOWS - 54), 1))
    assert "Gather" not in ops(rewritten(NAME, gathered(SHIFTED.astype(np.int32)), 1))
    assert "Gather" not in ops(rewritten(NAME, gathered(SHIFTED, axis=-2), 1))


def test_refused_an_axis_that_grows_with_the_batch():
    model = graph(
        "(float[batch, 5, 4] x) => (float[5, k, 4] y) { p = Transpose <perm = [1, 0, 2]> (x) "
        "y = Gather <axis = 1> (p, index) }",
        index=i64(0),
    )
    rewritten(NAME, model, 0)


def test_an_output_keeps_its_name():
    model = graph(
        "(float[batch, 54, 4] x) => (float[batch, 54, 4] y) { y = Gather <axis = 1> (x, index) }", index=SHIFTED
    )
    assert rewritten(NAME, model, 1).graph.output[0].name == "y"


@pytest.mark.parametrize("index, says", [
    (np.random.default_rng(0).permutation(54), "no two exchanges"),
    (np.r_[WINDOWS[:-1], WINDOWS[0]], "no permutation"),
])  # fmt: skip
def test_what_is_no_movement_of_a_grid_stays(index, says):
    why = {}
    matches, after = apply(NAME, gathered(index), refused=why)
    assert matches == 0 and "Gather" in ops(after) and says in why["blocks.0/Gather_0"]


def test_a_part_of_the_tokens_another_axis_and_one_token_stay():
    rewritten(NAME, gathered(WINDOWS[:9], out="batch, 9, 4"), 0)
    rewritten(NAME, gathered(i64(3, 2, 1, 0), axis=2), 0)
    rewritten(NAME, gathered(np.int64(5), out="batch, 4"), 0)
