import numpy as np
import pytest
from graphs import f32, graph

from exporter import observing
from exporter.errors import UsageError

TEXT = "(float[B, 5, 6] x) => (float[B, 5, 4] y) { a = Relu(x) y = MatMul(a, w) }"


@pytest.fixture()
def model():
    return graph(TEXT, w=f32(6, 4))


def test_channels_and_histograms_are_what_numpy_says(model):
    images, told = f32(2 * observing.BATCH + 3, 5, 6, seed=1), []
    a = np.maximum(images, 0)
    y = a @ f32(6, 4)
    found = observing.channels(model, ["a", "y", "a"], iter(images), told.append)
    np.testing.assert_array_equal(found["a"], a.max((0, 1)))
    np.testing.assert_allclose(found["y"], np.abs(y).max((0, 1)), rtol=1e-6)
    assert told == [8, 16, 19]
    seen = observing.histograms(model, ["a", "y"], iter(images), lambda n: None)
    assert seen["y"].counts.sum() == y.size  # small enough to count all
    assert seen["y"].largest == pytest.approx(np.abs(y).max(), rel=1e-6)


def test_channels_may_be_rows(model):
    images = f32(9, 5, 6, seed=1)
    found = observing.channels(model, ["a", "y"], iter(images), lambda n: None, {"a"})
    assert found["y"].shape == (4,)
    np.testing.assert_array_equal(found["a"], np.maximum(images, 0).max((0, 2)))


def test_of_a_large_tensor_a_sample_is_counted_that_sees_every_channel():
    for elements, width in ((3136 * 96, 96), (197 * 768, 768), (1 << 22, 1024), (100, 10), (7 * 35007, 35007)):
        step = observing.stride(elements, width)
        assert len(set(range(0, step * width, step))) == width
        assert len({i % width for i in range(0, step * width, step)}) == width
        assert elements / step <= 2 * observing.SAMPLE


def test_what_is_not_finite_is_named(model):
    images = f32(3, 5, 6)
    images[1, 2, 3] = np.inf
    with pytest.raises(UsageError, match="the activations of a cannot be quantised"):
        observing.channels(model, ["a"], iter(images), lambda n: None)


def test_no_images_are_an_error(model):
    with pytest.raises(UsageError, match="nothing to calibrate on"):
        observing.channels(model, ["a"], iter(()), lambda n: None)
