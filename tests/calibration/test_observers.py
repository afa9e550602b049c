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
