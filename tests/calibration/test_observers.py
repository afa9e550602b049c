import itertools

import numpy as np
import pytest

from calibration import observers
from calibration.observers import BINS, Histogram, amax

RNG = np.random.default_rng(0)
NORMAL = RNG.standard_normal(1 << 18).astype(np.float32)
"""Most of it within 3, its largest value near 5."""


def seen(*batches) -> Histogram:
    found = Histogram()
    for batch in batches:
        found.add(batch, float(np.abs(batch).max()))
    return found


def test_a_histogram_filled_batch_by_batch_is_that_of_all_values():
    parts = np.split(NORMAL * np.repeat([1, 3, 0.5, 9], len(NORMAL) // 4), 4)  # the range grows twice
    found = seen(*parts)
    values = np.abs(np.concatenate(parts))
    assert found.largest == values.max() and found.range >= found.largest
    expected, _ = np.histogram(values, BINS, (0, found.range))
    assert found.counts.sum() == len(values)
    assert np.abs(found.counts - expected).sum() <= 1e-3 * len(values)  # what lies on an edge


def test_zeros_have_no_range():
    assert seen(np.zeros(8, np.float32)).range == 0.0


@pytest.mark.parametrize("method", sorted(observers.METHODS))
def test_no_method_goes_beyond_the_largest_value(method):
    for values in (NORMAL, np.full(64, 2.0, np.float32), np.r_[NORMAL, np.float32(1000)]):
        found = amax(seen(values), method)
        assert 0 < found <= np.abs(values).max()


def test_minmax_and_percentile_are_what_numpy_says():
    found = seen(NORMAL)
    assert amax(found, "minmax") == np.abs(NORMAL).max()
    expected = np.quantile(np.abs(NORMAL), observers.PERCENTILE)
    assert amax(found, "percentile") == pytest.approx(expected, abs=2 * found.range / BINS)


def test_mse_is_the_best_range_by_trying_them_all():
    heavy = (NORMAL**3).astype(np.float32)
    ranges = np.abs(heavy).max() * np.arange(0.05, 1.001, 0.01)
    errors = [np.square(observers.int8(heavy, r) - heavy).mean() for r in ranges]
    found = amax(seen(heavy), "mse")
    assert np.square(observers.int8(heavy, found) - heavy).mean() <= 1.02 * min(errors)
    assert found < 0.8 * np.abs(heavy).max()


@pytest.mark.parametrize("method", ["percentile", "entropy", "mse"])
def test_one_outlier_among_many_values_is_clipped(method):
    """Were it not, four levels would be left for all the others."""
    assert amax(seen(np.r_[NORMAL, np.float32(100)]), method) < 70


def test_entropy_keeps_nearly_all_of_a_uniform_distribution():
    assert amax(seen(RNG.uniform(-1, 1, 1 << 16).astype(np.float32)), "entropy") > 0.9


def test_rounding_is_that_of_the_types():
    assert observers.int8(np.array([-9.0, 0.26, 0.24, 1.0]), 127 * 0.5).tolist() == [-9.0, 0.5, 0.0, 1.0]
    assert observers.int8(np.array([1e6]), 127.0).tolist() == [127.0]
    got = observers.float8(np.array([448.0, 447.0, 17.0, 1e6]), 448.0)
    assert got.tolist() == [448.0, 448.0, 16.0, 448.0]  # three bits of mantissa: 16, 18, 20; 416, 448


def test_bins_hold_what_lies_in_them_however_often_the_range_doubles():
    """0.5 ends the first range, so it is in its last bin; eight bins of that range are one of the last."""
    found = seen(np.float32([[0.0, 0.5], [-0.25, 0.125]]), np.float32([0.5, 0.4]), np.float32([-3.0, 0.75, 1.0]))
    assert (found.range, found.largest, found.counts.dtype) == (4.0, 3.0, np.int64)
    first, last = {0: 1, 255: 2, 128: 1, 64: 1, int(0.4 * 512): 1}, {1536: 1, 384: 1, 512: 1}
    assert {int(i): int(found.counts[i]) for i in np.flatnonzero(found.counts)} == first | last


def test_a_value_at_the_end_of_the_range_is_in_the_last_bin_and_the_range_stays():
    found = seen(np.float32([1.0, 0.999]), np.float32([1.0]))
    assert found.range == 1.0 and found.counts[-1] == 2 and found.counts[int(0.999 * BINS)] == 1


def test_nothing_but_zeros_first_and_values_later():
    found = seen(np.zeros(3, np.float32), np.float32([0.25, -0.5]))
    assert (found.range, found.largest, int(found.counts.sum())) == (0.5, 0.5, 2)
    assert seen(np.zeros(3, np.float32)).largest == 0.0


def test_a_histogram_of_values_below_one_has_their_largest():
    assert seen(np.float32([0.1, 0.2])).largest == np.float32(0.2)


@pytest.mark.parametrize("value, expected", [(0.4, 0.0), (0.6, 1.0), (-126.6, -127.0), (-500, -127.0), (500, 127.0)])
def test_int8_is_symmetric_and_rounds_to_even_steps(value, expected):
    assert observers.int8(np.array([value]), 127.0)[0] == expected
    assert observers.int8(np.array([value / 4]), 127.0 / 4)[0] == expected / 4


@pytest.mark.parametrize("value, expected", [
    (448, 448), (500, 448), (-500, -448), (-448, -448), (33, 32), (35, 36), (2.0**-9, 2.0**-9), (2.0**-11, 0),
])  # fmt: skip
def test_fp8_has_its_own_steps_and_end(value, expected):
    made = observers.float8(np.array([value], np.float64), 448.0)
    assert made[0] == expected and made.dtype == np.float64
    assert observers.float8(np.array([value * 8.0]), 448.0 * 8)[0] == expected * 8


def test_percentile_is_the_end_of_the_bin_that_reaches_the_share():
    found = Histogram()
    found.range, found.largest = 2.0, 2.0
    found.counts[10], found.counts[100], found.counts[-1] = 5, 10**9, 1
    assert observers.percentile(found, observers.int8) == 2.0 * 101 / BINS


def divergence(counts, end) -> float:
    """KL(p || q) bin by bin; what q does not have costs log 10^4."""
    levels = observers.LEVELS
    q = np.zeros(end)
    edges = [i * end // levels for i in range(levels)] + [end]
    for low, high in itertools.pairwise(edges):
        used = [i for i in range(low, high) if counts[i] > 0]
        for i in used:
            q[i] = sum(counts[i] for i in used) / len(used)
    p = [float(c) for c in counts[:end]]
    p[-1] += float(sum(counts[end:]))
    p_sum, q_sum = sum(p), sum(q)
    total = 0.0
    for a, b in zip(p, q, strict=True):
        if a > 0 and b > 0:
            total += a / p_sum * np.log(a / p_sum / (b / q_sum))
        elif a > 0:
            total += a / p_sum * np.log(1e4)
    return total


@pytest.mark.parametrize("end", [128, 136, 1000, BINS - 8])
def test_the_divergence_is_that_of_its_definition(end):
    counts = np.bincount(np.minimum((np.abs(NORMAL[:3000]) * 300).astype(int), BINS - 1), minlength=BINS)
    counts[end - 1] = 0  # what is clipped falls into a bin that the levels do not have
    counts[BINS - 1] += 4
    assert observers._divergence(counts.astype(np.float64), end) == pytest.approx(divergence(counts, end), rel=1e-12)


def test_entropy_and_mse_take_the_best_of_all_their_ends():
    found = seen((NORMAL[:20000] ** 3).astype(np.float32))
    counts = found.counts.astype(np.float64)
    ends = [observers.LEVELS + 8 * i for i in range((BINS - observers.LEVELS) // 8 + 1)]
    assert ends[-1] == BINS
    best = min(ends, key=lambda end: observers._divergence(counts, end))
    assert observers.entropy(found, observers.int8) == found.range * best / BINS
    middles = [(i + 0.5) * found.range / BINS for i in range(BINS)]
    widths = [found.range * (BINS // 16 + 16 * i) / BINS for i in range((BINS - BINS // 16) // 16 + 1)]
    assert widths[-1] == found.range
    best = min(widths, key=lambda w: float((counts * (observers.int8(np.array(middles), w) - middles) ** 2).sum()))
    assert observers.mse(found, observers.int8) == best


def test_the_whole_range_is_among_the_ends():
    flat = seen(np.linspace(-1, 1, 1 << 16, dtype=np.float32))
    assert observers.mse(flat, observers.int8) == 1.0
