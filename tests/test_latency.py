import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import latency

MILLISECOND = 1e-3


@pytest.mark.parametrize("count, share, place", [
    (10, 90, 9), (100, 99, 100), (100, 95, 95), (200, 99, 199), (1, 99, 1), (3, 90, 3), (10, 100, 10), (10, 0, 1),
    (20, 95, 19), (1000, 99, 991), (40, 90, 36), (41, 95, 39),
])  # fmt: skip
def test_percentiles_are_trtexecs(count, share, place):
    # places that C++ gives for sorted[max(all - 1 - int((1 - percentile / 100) * all), 0)] with float percentiles
    assert latency.percentile(range(1, count + 1), share) == place


def test_a_percentile_beyond_100_is_an_error():
    with pytest.raises(ValueError):
        latency.percentile([1.0], 101)


@given(st.lists(st.floats(1e-4, 10), min_size=1, max_size=200))
@settings(max_examples=50, deadline=None)
def test_a_summary_is_in_order_and_its_median_is_numpys(seconds):
    found = latency.summary(seconds)
    assert found.queries == len(seconds)
    assert found.min <= found.p50 <= found.p95 <= found.p99 <= found.max and found.p90 <= found.p95
    assert found.p50 == pytest.approx(1e3 * np.median(seconds)) and found.mean == pytest.approx(1e3 * np.mean(seconds))
    assert found.cv == pytest.approx(np.std(seconds) / np.mean(seconds), abs=1e-9)


def test_nothing_measured_is_an_error_and_no_number():
    for call in (lambda: latency.summary([]), lambda: latency.ratio([], [])):
        with pytest.raises(ValueError):
            call()


def test_throughput_counts_queries_and_images_over_the_wall_time():
    assert latency.throughput(30, 8, 2.0) == {"queries_per_second": 15.0, "images_per_second": 120.0}


def test_a_ratio_is_taken_pair_by_pair():
    ours = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]  # the machine slows down all the time; the ratio does not
    found = latency.ratio([1.5 * s for s in ours], ours)
    assert found.median == found.low == found.high == 1.5 and found.spread == 0 and found.verdict == "faster"
    assert latency.ratio(ours, [1.5 * s for s in ours]).verdict == "slower"


def test_runs_that_cannot_tell_say_so():
    rng = np.random.default_rng(0)
    ours, theirs = rng.uniform(0.5, 1.5, (2, 40))
    assert latency.ratio(theirs, ours).verdict == "cannot tell"
    assert latency.ratio([2.0] * 3, [1.0] * 3).verdict == "cannot tell"  # three pairs prove nothing


@pytest.mark.parametrize("count", [6, 11, 30, 100])
def test_the_interval_holds_the_true_median_19_times_of_20(count):
    rng = np.random.default_rng(count)
    held = 0
    for _ in range(2000):
        low, high = latency.ratio(np.exp(rng.normal(size=count)), np.ones(count)).interval  # the true median is 1
        held += low <= 1 <= high
    assert held / 2000 >= 0.94  # 95 %, less three standard errors of 2000 draws
    low, high = latency.ratio(np.exp(rng.normal(size=count)), np.ones(count)).interval
    assert low < high
