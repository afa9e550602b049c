"""Window partitions, shifts and their compositions are a few movements of a grid; anything else is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.permutations import Exchange, Roll, exchanged, factored


def partitioned(rows, columns, height, width):
    """The tokens of a grid window by window."""
    grid = np.arange(rows * columns).reshape(rows // height, height, columns // width, width)
    return grid.transpose(0, 2, 1, 3).reshape(-1)


def rolled(rows, columns, down, right):
    return np.roll(np.arange(rows * columns).reshape(rows, columns), (-down, -right), (0, 1)).reshape(-1)


def inverse(index):
    return np.argsort(index)


def moved(movements, count):
    tokens = np.arange(count)
    for movement in movements:
        tokens = movement(tokens)
    return tokens


def kinds(index):
    movements = factored(index)
    assert np.array_equal(moved(movements, len(index)), index)
    return [type(m) for m in movements]


WINDOWS, SHIFT = partitioned(14, 21, 7, 7), rolled(14, 21, 3, 3)


def test_a_partition_and_its_reverse_are_one_exchange_of_axes():
    assert factored(WINDOWS) == [Exchange((2, 7, 3, 7), (0, 2, 1, 3))]
    assert factored(inverse(WINDOWS)) == [Exchange((2, 3, 7, 7), (0, 2, 1, 3))]


def test_shifts_stand_between_the_exchanges():
    assert kinds(SHIFT) == [Roll]
    assert kinds(SHIFT[WINDOWS]) == [Roll, Exchange]
    assert kinds(inverse(SHIFT[WINDOWS])) == [Exchange, Roll]
    assert kinds(inverse(WINDOWS)[SHIFT[WINDOWS]]) == [Exchange, Roll, Exchange]  # from a Swin block to the next
    assert kinds(inverse(SHIFT[WINDOWS])[WINDOWS]) == [Exchange, Roll, Exchange]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_window_any_shift_any_grid(data):
    height, width, down, across = (data.draw(st.integers(1, 5)) for _ in range(4))
    rows, columns = height * down, width * across
    windows = partitioned(rows, columns, height, width)
    shift = rolled(rows, columns, data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1)))
    for index in (windows, shift[windows], inverse(shift[windows]), inverse(windows)[shift[windows]]):
        kinds(index)


def test_whatever_is_found_is_the_permutation():
    rng = np.random.default_rng(0)
    found = 0
    for count in (1, 2, 3, 4, 6, 8, 12, 24):
        for _ in range(40):
            index = rng.permutation(count)
            movements = factored(index)
            if movements is not None:
                found += 1
                assert np.array_equal(moved(movements, count), index)
    assert found > 40  # few tokens have few permutations


@pytest.mark.parametrize("index", [np.random.default_rng(1).permutation(49), np.r_[WINDOWS[:-2], WINDOWS[:-3:-1]]])
def test_what_is_no_movement_of_a_grid_is_none(index):
    assert factored(index) is None


def test_an_exchange_of_more_axes_than_a_partition_has():
    index = np.arange(24).reshape(2, 3, 2, 2).transpose(2, 0, 3, 1).reshape(-1)
    assert np.array_equal(exchanged(index)(np.arange(24)), index)
    assert exchanged(np.arange(24)).trivial and exchanged(np.arange(24)[::-1].copy()) is None
