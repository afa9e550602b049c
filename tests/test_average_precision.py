"""COCO's average precision on boxes whose precision is known by hand."""

import numpy as np
import pytest

from exporter.average_precision import Boxes, average_precision, drop_interval, match
from exporter.errors import UsageError

SQUARE = (10.0, 10.0, 30.0, 30.0)
EXACT = 1e-9
"""pycocotools interpolates at 101 recalls in float64; the shares below are exact."""


def truth(*corners, classes=None, crowd=None):
    return Boxes(np.array(corners).reshape(-1, 4), np.array(classes or [1] * len(corners)), crowd=crowd)


def answer(*corners, classes=None, scores=None):
    scores = np.array(scores or [0.9] * len(corners))
    return Boxes(np.array(corners).reshape(-1, 4), np.array(classes or [1] * len(corners)), scores)


def test_perfect_answers_have_a_precision_of_one():
    found = average_precision([answer(SQUARE), answer(SQUARE)], [truth(SQUARE), truth(SQUARE)])
    assert (found.ap, found.ap50) == pytest.approx((1, 1), abs=EXACT)


def test_a_shifted_box_counts_up_to_its_iou():
    # 20 x 20, moved by 4: 16 x 20 in common of 24 x 20, an IoU of 2/3, right at 0.50, 0.55, 0.60 and 0.65 of ten.
    found = average_precision([answer((14.0, 10.0, 34.0, 30.0))], [truth(SQUARE)])
    assert (found.ap, found.ap50) == pytest.approx((0.4, 1), abs=EXACT)


def test_a_box_of_another_class_is_no_match():
    found = average_precision([answer(SQUARE, classes=[2])], [truth(SQUARE)])
    assert (found.ap, found.ap50) == (0, 0)


def test_class_nought_and_the_first_object_count():
    found = average_precision([answer(SQUARE, classes=[0])], [truth(SQUARE, classes=[0])])
    assert found.ap == pytest.approx(1, abs=EXACT)


def test_a_false_answer_costs_by_its_rank():
    elsewhere = (50.0, 50.0, 70.0, 70.0)
    first = average_precision([answer(SQUARE, elsewhere, scores=[0.5, 0.9])], [truth(SQUARE)])
    last = average_precision([answer(SQUARE, elsewhere, scores=[0.9, 0.5])], [truth(SQUARE)])
    assert first.ap50 == pytest.approx(0.5, abs=EXACT)
    assert last.ap50 == pytest.approx(1, abs=EXACT)


def test_answers_within_a_crowd_are_neither_right_nor_wrong():
    crowd = (40.0, 40.0, 90.0, 90.0)
    seen = truth(SQUARE, crowd, crowd=np.array([False, True]))
    inside = answer((45.0, 45.0, 60.0, 60.0), SQUARE, scores=[0.9, 0.5])
    assert average_precision([inside], [seen]).ap == pytest.approx(1, abs=EXACT)
    assert average_precision([inside], [truth(SQUARE)]).ap50 == pytest.approx(0.5, abs=EXACT)


def test_no_answer_at_all_is_nought():
    assert average_precision([answer()], [truth(SQUARE)]).ap == 0


@pytest.mark.parametrize(
    ("answers", "truths", "said"),
    [
        ([], [truth(SQUARE)], "not of the same images"),
        ([truth(SQUARE)], [truth(SQUARE)], "no finite scores"),
        ([answer(SQUARE, scores=[float("nan")])], [truth(SQUARE)], "no finite scores"),
        ([answer(SQUARE)], [truth()], "no object"),
        ([answer(SQUARE)], [truth(SQUARE, crowd=np.array([True]))], "no object"),
    ],
)
def test_what_cannot_be_judged_is_refused(answers, truths, said):
    with pytest.raises(UsageError, match=said):
        average_precision(answers, truths)


def images(found, count=40):
    """(answers, truths) of ``count`` images with one square each, of which the answers to ``found`` of them hit."""
    hit, miss = answer(SQUARE), answer((200.0, 200.0, 220.0, 220.0))
    return [hit if i < found else miss for i in range(count)], [truth(SQUARE)] * count


def test_the_precision_of_chosen_images_is_that_of_only_these():
    answers, truths = images(30)
    matched = match(answers, truths)
    chosen = np.array([0, 0, 35, 39] * 10)
    again = average_precision([answers[i] for i in chosen], [truths[i] for i in chosen])
    assert matched.precision(chosen) == again != matched.precision()
    assert matched.precision() == average_precision(answers, truths)


def test_a_drop_has_the_interval_of_its_images():
    """37 of 40 hits against 40: each draw loses about as many as the binomial does, and the same draw for both."""
    before, after = match(*images(40)), match(*images(37))
    low, high = drop_interval(before, after, resamples=60)["ap50"]
    assert 0 <= low < 7.5 < high < 30
    few = [drop_interval(before, second, seed, 4) for second, seed in ((before, 0), (after, 0), (after, 0), (after, 1))]
    assert few[0] == {"ap": [0, 0], "ap50": [0, 0]}
    assert few[1] == few[2] != few[3]
