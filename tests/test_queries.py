import numpy as np
import pytest

from exporter import parity, queries
from exporter.types import Preprocessing, Recipe, TensorSpec, Tolerance

RNG = np.random.default_rng(0)
ANSWER = {"logits": RNG.standard_normal((3, 7, 5), dtype=np.float32), "boxes": RNG.random((3, 7, 4), dtype=np.float32)}


def shuffled(answer):
    """Each image's queries in another order, the same one for all outputs."""
    orders = np.stack([np.random.default_rng(i).permutation(7) for i in range(3)])
    return {name: np.take_along_axis(value, orders[:, :, None], 1) for name, value in answer.items()}


def recipe(of_a_set):
    return Recipe(
        name="toy", build=lambda spec: None, preprocessing=Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3),
        outputs=(TensorSpec("logits", ""), TensorSpec("boxes", "")), task="detection", set_of_queries=of_a_set,
    )  # fmt: skip


def test_an_order_is_undone_whatever_was_added():
    noise = {name: value + np.float32(1e-3) * value for name, value in ANSWER.items()}
    found = queries.ordered(ANSWER, shuffled(noise))
    for name, value in noise.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("of_a_set, status", [(True, "passed"), (False, "failed")])
def test_only_what_says_so_is_compared_as_a_set(of_a_set, status):
    rung = parity.compare(recipe(of_a_set), Tolerance(1e-6, 0.999999), [ANSWER], [shuffled(ANSWER)])
    assert rung.status == status


def test_a_box_on_anothers_query_is_an_error_in_a_set_too():
    wrong = shuffled(ANSWER)
    wrong["boxes"] = wrong["boxes"][:, ::-1]
    assert parity.compare(recipe(True), Tolerance(1e-3, 0.999), [ANSWER], [wrong]).status == "failed"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_not_moved_and_fails(value):
    wrong = shuffled(ANSWER)
    wrong["boxes"][1, 2, 3] = value
    assert queries.ordered(ANSWER, wrong)["boxes"] is wrong["boxes"]
    assert parity.compare(recipe(True), Tolerance(1e-3, 0.999), [ANSWER], [wrong]).status == "failed"


def test_an_output_that_is_no_row_a_query_keeps_its_order():
    more = ANSWER | {"count": np.ones((3, 1), np.float32)}
    assert queries.ordered(more, more)["logits"] is more["logits"]


def test_an_order_that_is_as_near_is_kept():
    """The cheapest assignment may have a larger error than the order as it is, and errors are what is judged."""
    reference = {"logits": np.float32([[[0.0], [0.019], [1.0]]]), "boxes": np.zeros((1, 3, 4), np.float32)}
    found = {"logits": np.float32([[[0.019], [0.038], [1.0]]]), "boxes": np.zeros((1, 3, 4), np.float32)}
    np.testing.assert_array_equal(queries.ordered(reference, found)["logits"], found["logits"])
