import numpy as np
import pytest
from graphs import f32, graph, tiny_recipe

from exporter import budget
from exporter.errors import UsageError
from exporter.goal import Goal
from exporter.kernels import Kernel, Tensor
from exporter.roofline import CHIPS

DROPS = {"a.1": 2.0, "b.1": 0.1, "c.1": 1.0}
PARTS = {block: [f"{block}.attn", f"{block}.mlp"] for block in DROPS}
EVEN = dict.fromkeys(DROPS, 1.0)


def narrow(out):
    """A 'graph': the blocks that are still narrow, and the parts of the others that are."""
    found = {b: d for b, d in DROPS.items() if b not in out and not out & set(PARTS[b])}
    for block, drop in DROPS.items():
        if block not in out and out & set(PARTS[block]):
            found |= {part: drop * (0.9 if part.endswith("mlp") else 0.1) for part in set(PARTS[block]) - out}
    return found or None


class Answers:
    """The drop is the sum over what is narrow."""

    def measure(self, made):
        return {"drop": sum((made or {}).values()), "relative_max": 0.0}

    def error(self, made):
        return sum(made.values())


def search(most, savings):
    return budget.search(list(DROPS), narrow, Answers(), savings, Goal(most))


def test_a_goal_that_is_met_leaves_everything_narrow():
    table = search(4.0, EVEN)
    assert len(table) == 1 and table[0]["left"] == [] and table[0]["saved_us"] == 3.0


def test_the_most_harmful_block_is_widened_first():
    table = search(1.2, EVEN)
    assert table[-1]["left"] == ["a.1"] and table[-1]["own"] == 2.0
    assert [row["drop"] for row in table] == pytest.approx([3.1, 1.1])


def test_a_block_that_saves_nothing_is_widened_before_one_that_saves_much():
    assert search(2.1, {"a.1": 100.0, "b.1": 1.0, "c.1": -5.0})[-1]["left"] == ["c.1"]


def test_no_drop_at_all_leaves_nothing_narrow():
    table = search(0.0, EVEN)
    assert set(table[-1]["left"]) == set(DROPS) and table[-1]["drop"] == 0.0


def test_a_block_that_was_widened_for_nothing_is_narrow_again_whole_or_in_part():
    costs = EVEN | {"b.1": 2.0, "a.1.attn": 5.0, "a.1.mlp": 1.0}
    kept, found = budget.release(["b.1", "a.1"], PARTS, costs, narrow, Answers(), Goal(1.5))
    assert kept == ["a.1.mlp"]  # b.1 loses 0.1, the attention of a.1 0.2: 1.0 + 0.1 + 0.2 is within
    assert found["drop"] == pytest.approx(1.3)
    found = budget.release(["b.1"], {}, EVEN, narrow, Answers(), Goal(3.0))
    assert found == (["b.1"], {"drop": 3.0, "relative_max": 0.0})


def test_what_costs_the_most_is_the_first_to_be_narrow_again():
    for dear, left in (("a.1", ["c.1"]), ("c.1", ["a.1"])):
        costs = EVEN | {dear: 9.0}
        assert budget.release(["a.1", "c.1"], {}, costs, narrow, Answers(), Goal(2.2))[0] == left


def test_the_drop_and_the_error_are_those_of_the_outputs():
    text = "(float[B, 4] x) => (float[B, 3] y) { y = MatMul(x, w) }"
    rows = f32(20, 4)
    answers = budget.Answers(graph(text, w=f32(4, 3)), iter(rows), tiny_recipe())
    own = answers.measure(graph(text, w=f32(4, 3)))
    assert own == {"drop": 0.0, "relative_max": 0.0} and answers.error(graph(text, w=f32(4, 3))) == 0.0
    assert answers.measure(None) == own
    swapped = f32(4, 3)[:, [1, 0, 2]]
    same = ((rows @ swapped).argmax(1) == (rows @ f32(4, 3)).argmax(1)).mean()
    assert answers.measure(graph(text, w=swapped))["drop"] == pytest.approx(100 * (1 - same))
    twice = graph(text, w=2 * f32(4, 3))
    assert answers.measure(twice)["relative_max"] == pytest.approx(1.0)
    assert answers.error(twice) == pytest.approx(1.0, rel=1e-5)


def test_the_largest_error_is_a_share_of_each_images_own_largest_value():
    text = "(float[B, 2] x) => (float[B, 2] y) { y = Mul(x, w) }"
    rows = np.array([[1.0, 0.1], [100.0, 1.0]], np.float32)
    answers = budget.Answers(graph(text, w=np.ones(2, np.float32)), iter(rows), tiny_recipe())
    found = answers.measure(graph(text, w=np.array([1.0, 1.5], np.float32)))
    assert found["relative_max"] == pytest.approx(0.05)  # of the first image; 0.005 of the batch's largest


@pytest.mark.parametrize("of_a_set, error", [(True, 0.0), (False, 1.0)])
def test_queries_in_another_order_are_an_error_only_where_the_order_counts(of_a_set, error):
    text = "(float[B, 2, 3] x) => (float[B, 2, 3] y) { y = Gather <axis = 1> (x, order) }"
    recipe = tiny_recipe(task="detection", set_of_queries=of_a_set)
    rows = np.array([[[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]]], np.float32)
    answers = budget.Answers(graph(text, order=np.array([0, 1])), iter(rows), recipe)
    assert answers.error(graph(text, order=np.array([0, 1]))) == 0.0
    swapped = answers.error(graph(text, order=np.array([1, 0])))
    assert swapped == pytest.approx(error * 1.6)  # (4 of 1) of (2.5 over six numbers)


def test_too_few_images_for_the_goal_are_an_error_that_says_how_many_are_needed():
    model = graph("(float[B, 4] x) => (float[B, 3] y) { y = MatMul(x, w) }", w=f32(4, 3))
    with pytest.raises(UsageError, match=r"MAX_DROP=0\.5") as caught:
        budget.Answers(model, iter(f32(20, 4)), tiny_recipe(), Goal(0.5))
    assert "20 images" in caught.value.found and caught.value.expected == "at least 200"
    assert budget.Answers(model, iter(f32(201, 4)), tiny_recipe(), Goal(0.5)).count == 200


def test_savings_are_launches_and_floors_by_block():
    def kernel(block, megabytes):
        tensor = Tensor("t", (megabytes, 1 << 20), "Int8")
        return Kernel("k", "kgen", "matmul", (tensor,), (), (), (f"{block}/MatMul",), "")

    chip = CHIPS["sm80"]
    got = budget.saved([kernel("a.1", 100)], [kernel("a.1", 50), kernel("a.1", 1), kernel("b.1", 1)], chip)
    megabyte = 1e6 * (1 << 20) / (chip.memory * 1e9)
    assert got["a.1"] == pytest.approx(49 * megabyte - budget.LAUNCH_US)
    assert got["b.1"] == pytest.approx(-megabyte - budget.LAUNCH_US)
