import numpy as np
import pytest
from graphs import f32, graph

from exporter import budget, placement
from exporter.kernels import Kernel, Tensor
from exporter.roofline import CHIPS

BLOCKS = ("a", "b", "c")


def at() -> placement.Placement:
    products = [placement.Product(f"{b}.1/MatMul", "x", "w", f"y{b}", False) for b in BLOCKS]
    return placement.Placement(tuple(products), (("b.1/MatMul_2", 0, "q"),), {})


class Answers:
    """Errors by block; the drop is the sum over the blocks that are quantised."""

    drops = {"a.1": 2.0, "b.1": 0.1, "c.1": 1.0}  # noqa: RUF012

    def drop(self, placed):
        return sum(self.drops[p.block] for p in placed.products)

    error = drop


def search(most, savings):
    return budget.search(at(), lambda placed: placed, Answers(), savings, most, lambda text: None)


EVEN = {"a.1": 1.0, "b.1": 1.0, "c.1": 1.0}


def test_a_budget_that_holds_leaves_everything():
    kept, table = search(4.0, EVEN)
    assert kept == at() and len(table) == 1 and table[0]["saved_us"] == 3.0


def test_the_most_harmful_block_goes_back_first():
    kept, table = search(1.2, EVEN)
    assert [p.block for p in kept.products] == ["b.1", "c.1"] and table[-1]["left"] == ["a.1"]
    assert [row["drop"] for row in table] == pytest.approx([3.1, 1.1])
    assert kept.left == {"a.1/MatMul": "its block loses more than it saves"}


def test_a_block_that_saves_nothing_goes_back_before_one_that_saves_much():
    kept, table = search(2.1, {"a.1": 100.0, "b.1": 1.0, "c.1": -5.0})
    assert table[-1]["left"] == ["c.1"] and len(kept.operands) == 1


def test_no_drop_at_all_leaves_nothing_quantised():
    kept, table = search(0.0, EVEN)
    assert not kept.products and not kept.operands and table[-1]["drop"] == 0.0


def test_the_drop_and_the_error_are_those_of_the_outputs():
    text = "(float[B, 4] x) => (float[B, 3] y) { y = MatMul(x, w) }"
    rows = f32(20, 4)
    answers = budget.Answers(graph(text, w=f32(4, 3)), iter(rows), "classification")
    assert answers.drop(graph(text, w=f32(4, 3))) == 0.0 and answers.error(graph(text, w=f32(4, 3))) == 0.0
    swapped = f32(4, 3)[:, [1, 0, 2]]
    same = ((rows @ swapped).argmax(1) == (rows @ f32(4, 3)).argmax(1)).mean()
    assert answers.drop(graph(text, w=swapped)) == pytest.approx(100 * (1 - same))
    expected, found = rows[:16] @ f32(4, 3), 2 * rows[:16] @ f32(4, 3)
    share = np.mean(
        [
            np.square(f - e).mean() / np.square(e).mean()
            for f, e in ((found[:8], expected[:8]), (found[8:], expected[8:]))
        ]
    )
    assert answers.error(graph(text, w=2 * f32(4, 3))) == pytest.approx(share, rel=1e-5)


def test_savings_are_launches_and_floors_by_block():
    def kernel(block, megabytes):
        tensor = Tensor("t", (megabytes, 1 << 20), "Int8")
        return Kernel("k", "kgen", "matmul", (tensor,), (), (), (f"{block}/MatMul",), "")

    chip = CHIPS["sm80"]
    got = budget.saved([kernel("a.1", 100)], [kernel("a.1", 50), kernel("a.1", 1), kernel("b.1", 1)], chip)
    megabyte = 1e6 * (1 << 20) / (chip.memory * 1e9)
    assert got["a.1"] == pytest.approx(49 * megabyte - budget.LAUNCH_US)
    assert got["b.1"] == pytest.approx(-megabyte - budget.LAUNCH_US)
