"""Distances and agreements against plain numpy and a naive loop; what is not a number is never near."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from exporter import metrics
from exporter.types import Tolerance

STEADY = settings(deadline=None, derandomize=True)
ANYTHING = Tolerance(float("inf"), -1.0)
EXACT = Tolerance(0.0, 1.0)
numbers = st.floats(-100, 100, width=32)


def rng():
    return np.random.default_rng(0)


# errors and within


@STEADY
@given(arrays(np.float32, (3, 2, 4), elements=numbers), arrays(np.float32, (3, 2, 4), elements=numbers))
def test_errors_are_what_their_names_say(a, b):
    found = metrics.errors(a, b)
    wide = a.astype(np.float64), b.astype(np.float64)
    difference = np.abs(wide[0] - wide[1])
    assert found["max_abs"] == difference.max()
    assert found["mean_abs"] == pytest.approx(difference.mean())
    if np.abs(a).max() > 0:
        assert found["relative_max"] == pytest.approx(difference.max() / np.abs(wide[0]).max())
    for p, q in zip(*wide, strict=True):
        p, q = p.ravel(), q.ravel()
        if np.linalg.norm(p) > 1e-30 and np.linalg.norm(q) > 1e-30:
            assert found["cosine"] <= p @ q / np.linalg.norm(p) / np.linalg.norm(q) + 1e-9
    assert found["cosine"] <= 1 + 1e-9


def test_cosine_is_of_the_worst_sample():
    a = np.array([[1, 0], [1, 0], [3, 4]], np.float32)
    b = np.array([[2, 0], [1, 1], [3, 4]], np.float32)
    assert metrics.errors(a, b)["cosine"] == pytest.approx(np.sqrt(0.5))


def test_errors_are_relative_to_the_reference_and_not_to_the_value():
    a, b = np.array([[1.0, -4.0]]), np.array([[1.0, -8.0]])
    assert metrics.errors(a, b)["relative_max"] == 1.0
    assert metrics.errors(b, a)["relative_max"] == 0.5


@STEADY
@given(arrays(np.float32, (2, 5), elements=numbers))
def test_equal_arrays_are_within_every_tolerance(a):
    found = metrics.errors(a, a.copy())
    assert (found["max_abs"], found["mean_abs"], found["relative_max"]) == (0, 0, 0)
    assert found["cosine"] == 1.0 and metrics.within(found, EXACT)


def test_half_precision_is_compared_without_overflow():
    a = np.full((1, 4), 60000, np.float16)
    found = metrics.errors(a, -a)
    assert found["max_abs"] == 2 * float(a[0, 0]) and found["cosine"] == pytest.approx(-1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["reference", "value", "both"])
def test_what_is_not_a_number_is_never_within_a_tolerance(bad, where):
    a, b = (rng().standard_normal((4, 1000)).astype(np.float32) for _ in range(2))
    if where != "value":
        a[2, 500] = bad
    if where != "reference":
        b[2, 500] = bad
    found = metrics.errors(a, b)
    assert not metrics.within(found, ANYTHING)
    assert not np.isfinite(found["max_abs"])


def test_zeros_are_like_zeros_and_like_nothing_else():
    zero, small = np.zeros((2, 3), np.float32), np.full((2, 3), 1e-6, np.float32)
    assert metrics.within(metrics.errors(zero, zero), EXACT)
    assert not metrics.within(metrics.errors(zero, small), Tolerance(1e9, 0.5))
    assert not metrics.within(metrics.errors(small, zero), Tolerance(2.0, 0.5))


def test_one_row_of_zeros_in_the_value_is_noticed():
    a = rng().standard_normal((3, 10))
    b = a.copy()
    b[1] = 0
    assert metrics.errors(a, b)["cosine"] == 0


@pytest.mark.parametrize("found, inside", [
    ((0.01, 0.999), True), ((0.02, 0.999), True), ((0.0201, 0.999), False), ((0.01, 0.99), True),
    ((0.01, 0.9899), False), ((np.nan, 1.0), False), ((0.0, np.nan), False), ((np.inf, 1.0), False),
])  # fmt: skip
def test_both_bounds_hold_and_belong_to_the_tolerance(found, inside):
    assert metrics.within(dict(zip(("relative_max", "cosine"), found, strict=True)), Tolerance(0.02, 0.99)) is inside


# classification


def classified(a, b):
    return metrics.agreement("classification", {"logits": np.array(a)}, {"logits": np.array(b)})


def test_equal_scores_agree_wholly():
    scores = rng().standard_normal((6, 20))
    assert classified(scores, scores * 3 + 1) == {"top1_agreement": 1.0, "top5_agreement": 1.0}


def test_agreement_is_the_share_of_samples_and_of_the_five_best():
    order = np.arange(10.0)
    other = order.copy()
    other[[9, 8]] = other[[8, 9]]  # another best, the same five
    far = -order  # other best, other five
    one_of_five = order.copy()
    one_of_five[[5, 0]] = one_of_five[[0, 5]]  # the same best, four of five
    assert classified([order] * 4, [order, other, far, one_of_five]) == {
        "top1_agreement": 0.5, "top5_agreement": pytest.approx((1 + 1 + 0 + 0.8) / 4)}  # fmt: skip


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_fewer_than_five_classes_are_compared_as_many_as_there_are(classes):
    scores = rng().standard_normal((3, classes))
    assert classified(scores, scores) == {"top1_agreement": 1.0, "top5_agreement": 1.0}


def test_an_unknown_task_is_no_agreement():
    with pytest.raises(KeyError):
        metrics.agreement("segmentation", {}, {})


# detection


def detections(queries=12, images=3, classes=5, seed=0):
    random = np.random.default_rng(seed)
    return {
        "logits": random.standard_normal((images, queries, classes + 1)).astype(np.float32) * 4,
        "boxes": random.uniform(0.1, 0.9, (images, queries, 4)).astype(np.float32),
    }


ALIKE = {"top1_agreement": 1.0, "box_iou": pytest.approx(1.0), "box_iou_min": pytest.approx(1.0)}


@STEADY
@given(st.integers(0, 1000))
def test_detections_agree_in_whatever_order_the_queries_are(seed):
    found = detections(seed=seed)
    random = np.random.default_rng(seed)
    orders = [random.permutation(12) for _ in range(3)]
    mixed = {k: np.stack([v[i][order] for i, order in enumerate(orders)]) for k, v in found.items()}
    assert metrics.agreement("detection", found, mixed) == ALIKE
    assert metrics.agreement("detection", mixed, found) == ALIKE


def test_queries_are_not_matched_across_images():
    found = detections(queries=1)
    mixed = {k: v[[1, 2, 0]] for k, v in found.items()}
    assert metrics.agreement("detection", found, mixed)["box_iou_min"] < 0.9


def test_one_moved_box_is_the_worst():
    found = detections()
    moved = {k: v.copy() for k, v in found.items()}
    moved["boxes"][1, 4] = (0.5, 0.5, 0.4, 0.4)
    found["boxes"][1, 4] = (0.6, 0.5, 0.4, 0.4)  # three quarters of the width are common
    expected = 0.3 / 0.5
    agreed = metrics.agreement("detection", found, moved)
    assert agreed["box_iou_min"] == pytest.approx(expected, abs=1e-6)
    assert agreed["box_iou"] == pytest.approx((35 + expected) / 36, abs=1e-6)
    assert agreed["top1_agreement"] == 1.0


def test_one_other_class_is_counted():
    found = detections()
    other = {k: v.copy() for k, v in found.items()}
    other["logits"][0, 3] = np.roll(other["logits"][0, 3], 1)
    agreed = metrics.agreement("detection", found, other)
    assert agreed["top1_agreement"] == pytest.approx(35 / 36) and agreed["box_iou_min"] == pytest.approx(1.0)


def test_boxes_of_the_same_place_are_told_apart_by_their_class():
    logits = np.array([[[9, 0, 0], [0, 9, 0], [0, 0, 9]]], np.float32)
    boxes = np.full((1, 3, 4), 0.5, np.float32)
    order = [2, 0, 1]
    assert metrics.agreement(
        "detection", {"logits": logits, "boxes": boxes}, {"logits": logits[:, order], "boxes": boxes}
    ) == ALIKE  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["logits", "boxes"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_detections_that_are_not_numbers_do_not_agree(name, bad):
    found = detections()
    broken = {k: v.copy() for k, v in found.items()}
    broken[name][:] = bad
    agreed = metrics.agreement("detection", found, broken)
    key = {"logits": "top1_agreement", "boxes": "box_iou_min"}[name]
    assert not agreed[key] >= 0.9


# box_iou


def naive_iou(a, b):
    left, top = (max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2) for i in (0, 1))
    right, bottom = (min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) for i in (0, 1))
    if right <= left or bottom <= top:
        return 0.0
    common = (right - left) * (bottom - top)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


boxes = arrays(np.float64, (5, 4), elements=st.floats(0.01, 1))


@STEADY
@given(boxes, boxes)
def test_overlap_is_that_of_a_naive_loop(a, b):
    found = metrics.box_iou(a, b)
    np.testing.assert_allclose(found, [naive_iou(p, q) for p, q in zip(a, b, strict=True)], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found, metrics.box_iou(b, a), rtol=1e-12)
    assert (found >= 0).all() and (found <= 1 + 1e-12).all()


@pytest.mark.parametrize("a, b, expected", [
    ((0.5, 0.5, 1, 1), (0.5, 0.5, 1, 1), 1), ((0.5, 0.5, 1, 1), (0.5, 0.5, 0.5, 0.5), 0.25),
    ((0.25, 0.5, 0.5, 1), (0.75, 0.5, 0.5, 1), 0), ((0, 0, 0.1, 0.1), (0.9, 0.9, 0.1, 0.1), 0),
    ((0.5, 0.5, 1, 1), (1, 0.5, 1, 1), 1 / 3), ((0.5, 0.5, 0, 0), (0.5, 0.5, 0, 0), 1),
    ((0.5, 0.5, 0, 0), (0.4, 0.5, 0, 0), 0), ((0.5, 0.5, 0, 0), (0.5, 0.5, 1, 1), 0),
])  # fmt: skip
def test_overlap_of_known_boxes(a, b, expected):
    assert metrics.box_iou(np.array([a], float), np.array([b], float)) == pytest.approx([expected])


def test_few_images_prove_little():
    low, high = metrics.interval(1.0, 8)
    assert (low, high) == (pytest.approx(0.025 ** (1 / 8)), 1.0)  # 8 of 8: the exact interval in closed form
    assert metrics.interval(0.5, 1000)[0] > 0.46 and metrics.interval(0.5, 10)[0] < 0.2
