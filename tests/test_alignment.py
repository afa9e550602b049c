import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.alignment import align, distance, likeness, signatures


def values(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.integers(9, 24), st.integers(0, 99))
def test_rows_in_any_order_are_put_back_exactly(batch, height, width, channels, seed):
    x = values(batch, height, width, channels, seed=seed)
    order = np.random.default_rng(seed).permutation(batch * height * width)
    there = x.reshape(-1, channels)[order]
    for tensor in (there, there.reshape(height * width, batch, channels)):
        made = align(x, tensor)
        assert made.distance == 0 and np.array_equal(made.apply(tensor), x)


def test_channels_may_lie_elsewhere():
    x = values(2, 16, 5, 7)
    made = align(x, x.transpose(0, 2, 3, 1))
    assert made.distance == 0 and np.array_equal(made.apply(x.transpose(0, 2, 3, 1)), x)


def test_the_alignment_holds_for_other_values():
    order = np.random.default_rng(1).permutation(2 * 49)
    made = align(values(2, 49, 32), values(2, 49, 32).reshape(-1, 32)[order])
    other = values(2, 49, 32, seed=5)
    assert np.array_equal(made.apply(other.reshape(-1, 32)[order]), other)


def test_rows_that_are_alike_are_taken_once_each():
    x = np.repeat(values(1, 3, 16), 4, axis=0)  # the class token of four images
    order = np.random.default_rng(2).permutation(12)
    made = align(x, x.reshape(-1, 16)[order])
    assert made.distance == 0 and (made.rows is None or sorted(made.rows) == list(range(12)))


def test_a_small_fault_does_not_hide_the_order_and_a_tensor_of_another_size_has_none():
    x = values(2, 49, 32)
    order = np.random.default_rng(3).permutation(98)
    made = align(x, 1.01 * x.reshape(-1, 32)[order])
    assert made.distance == pytest.approx(0.01, rel=1e-3)
    assert align(x, values(2, 48, 32)) is None


def test_nan_is_infinitely_far_and_an_image_of_zeros_does_not_divide():
    x = values(2, 8)
    bad = x.copy()
    bad[1, 3] = np.nan
    assert distance(x, bad) == np.inf
    assert distance(np.zeros((2, 4)), np.zeros((2, 4))) == 0
    assert distance(x, x) == 0


def test_likeness_sees_no_order_and_tells_tensors_apart():
    x = values(2, 49, 32)
    shuffled = x.reshape(-1, 32)[::-1]
    assert likeness(signatures(x), signatures(shuffled)) < 1e-5
    assert likeness(signatures(x), signatures(values(2, 49, 32, seed=9))) > 0.1
    assert likeness(signatures(x), signatures(values(2, 49, 33))) == np.inf


def test_two_channels_tell_no_order():
    x = values(3, 17, 64, 2)
    rows = x.reshape(-1, 2)[np.random.default_rng(4).permutation(3 * 17 * 64)]
    assert align(x, rows).distance > 0.5  # a key's heads: a near pair of numbers for every pair, and none of them it


def test_a_channel_that_is_large_in_all_rows_does_not_hide_their_order():
    x = values(2, 49, 32)
    x[..., 5] = 1e5 * (1 + 1e-5 * x[..., 5])
    order = np.random.default_rng(5).permutation(98)
    there = x.reshape(-1, 32)[order]
    made = align(x, there * np.float32(1 + 2**-8), close=0.0)
    assert np.array_equal(made.apply(there), x)


def test_a_token_of_each_image_is_found_among_the_modules():
    x = np.random.default_rng(3).standard_normal((3, 17, 32), dtype=np.float32)
    for tokens, tensor in (((0,), x[:, 0]), ((5,), x[:, 5:6]), ((5,), x[:, 5][None]), ((0, 16), x[:, [0, 16]])):
        made = align(x, tensor + np.float32(1e-4))
        assert made.tokens == tokens and 0 < made.distance < 1e-3
        own = np.zeros_like(x)
        whole = made.apply(tensor, own)
        assert np.array_equal(whole[:, list(tokens)], x[:, list(tokens)]) and not own.any()
        assert np.count_nonzero(whole) == 3 * 32 * len(tokens)
        assert np.array_equal(made.seen(x), x[:, list(tokens)])


def test_a_huge_channel_does_not_hide_which_token_it_is():
    x = np.random.default_rng(4).standard_normal((3, 17, 32), dtype=np.float32)
    x[..., 5] = 1e5 * (1 + 1e-3 * x[..., 5])
    rounded = x * np.float32(1 + 2.0**-9)
    assert [align(x, rounded[:, token]).tokens for token in range(17)] == [(token,) for token in range(17)]


def test_what_is_no_part_of_an_output():
    x = np.random.default_rng(3).standard_normal((3, 17, 32), dtype=np.float32)
    assert align(x, x[:, :3]) is None  # more than a few
    assert align(x, x[:2, 0]) is None  # of other images
    assert align(x, x[:, 0, :16]) is None  # of other channels
    assert align(x, x[:, [4, 4]]) is None  # the same one twice
    assert align(x[:, 0], x[:, 0, :1]) is None
    assert align(x, np.full((3, 32), np.nan, np.float32)).distance == np.inf
    assert align(x, x.mean(1)).distance > 0.5  # an average is no token


@pytest.mark.parametrize("tokens", [6, 49])
def test_tokens_and_channels_that_are_exchanged_are_aligned(tokens):
    x = values(2, tokens, 49)
    turned = np.ascontiguousarray(x.transpose(0, 2, 1))
    assert likeness(signatures(x), signatures(turned)) == 0
    assert likeness(signatures(x), signatures(values(2, 49, tokens, seed=9))) > 0.1
    made = align(x, turned)
    assert made.distance == 0 and np.array_equal(made.apply(turned), x)


def test_tokens_that_are_all_alike_make_no_two_tensors_alike():
    """Every normalisation's tokens have a mean of 0 and a mean square of 1: only its channels tell it from others."""
    first, second = (x - x.mean(-1, keepdims=True) for x in (values(4, 16, 32), values(4, 16, 32, seed=9)))
    first, second = (x / x.std(-1, keepdims=True) for x in (first, second))
    assert likeness(signatures(first), signatures(second)) > 0.1
