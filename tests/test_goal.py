import pytest

from exporter import goal
from exporter.errors import UsageError
from exporter.goal import Goal


def test_nothing_asked_for_is_no_goal():
    assert not goal.parse(None, None, None) and str(goal.parse(None, None, None)) == ""
    assert goal.parse(None, None, None).met({"drop": 100.0, "relative_max": float("nan")})


def test_an_agreement_is_a_drop_in_other_words():
    assert goal.parse(None, "0.995", None) == goal.parse("0.5", None, None) == Goal(drop=0.5)


@pytest.mark.parametrize("words, name", [
    (("-1", None, None), "MAX_DROP"), (("half", None, None), "MAX_DROP"), ((None, "99.5", None), "MIN_TOP1_AGREEMENT"),
    ((None, None, "nan"), "MAX_ERROR"), ((None, None, "2"), "MAX_ERROR"), (("1", "0.99", None), "the same budget"),
])  # fmt: skip
def test_words_that_are_no_budget(words, name):
    with pytest.raises(UsageError, match=name):
        goal.parse(*words)


@pytest.mark.parametrize("drop, error, met", [(0.5, 0.01, True), (0.6, 0.0, False), (0.0, 0.02, False),
                                              (0.0, float("nan"), False)])  # fmt: skip
def test_both_limits_hold(drop, error, met):
    assert Goal(0.5, 0.01).met({"drop": drop, "relative_max": error}) is met


def test_one_image_must_be_no_more_points_than_may_be_lost():
    assert Goal(0.5).images == 200 and Goal(0.0).images == 1 and Goal(error=0.1).images == 1
