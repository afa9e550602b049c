"""The blocks that are left wide so that a narrow network still answers what it answered in FP32.

Wide is 16 bits where narrow is 8 (``PRECISION=int8``), FP32 where narrow is 16. Where the answers are beyond the goal,
blocks are widened one by one, first the one with the largest error for each microsecond that being narrow saves: its
own error is the numerics twin's with that block alone narrow. Then what proves not to be needed is narrow again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

import numpy as np
import onnx

from exporter import metrics, numerics, queries
from exporter.backends.onnxruntime import run, session
from exporter.errors import UsageError
from exporter.goal import Goal
from exporter.kernels import Kernel
from exporter.naming import block_of
from exporter.observing import batches
from exporter.roofline import Chip, floor
from exporter.score import LAUNCH_US
from exporter.types import Recipe

IMAGES = 128
"""Images that the answers are compared on, at most, unless the goal needs more."""

FEW = 16
"""Images that a block's own error is measured on."""

LEAST_US = 0.1
"""What a block saves counts as this much at least: one that saves nothing is widened first."""

Made = Callable[[frozenset[str]], "onnx.ModelProto | None"]
"""The typed graph, with a free batch, in which these blocks are wide; None where nothing is narrow any more."""


class Answers:
    """What the FP32 graph answers to the images, and how far other graphs are from it."""

    def __init__(self, model: onnx.ModelProto, rows: Iterable[np.ndarray], recipe: Recipe, goal: Goal | None = None):
        self.recipe = recipe
        self.name = model.graph.input[0].name
        self.images = list(batches(islice(rows, max(IMAGES, goal.images if goal else 1))))
        self.count = sum(map(len, self.images))
        if goal and self.count < goal.images:
            raise UsageError(
                f"too few images to tell whether {goal} holds",
                found=f"{self.count} images, of which one is {100 / max(self.count, 1):.3g} points",
                expected=f"at least {goal.images}",
                next=f"CALIB=<a folder of {goal.images} images or more>",
            )
        made = session(model)
        self.expected = [run(made, {self.name: pixels}) for pixels in self.images]

    def measure(self, typed: onnx.ModelProto | None) -> dict[str, float]:
        """``drop``: points of top-1 agreement that a graph loses; ``relative_max``: the worst image's largest error.

        Nothing narrow (None) loses nothing.
        """
        if typed is None:
            return {"drop": 0.0, "relative_max": 0.0}
        found = self._answers(typed, len(self.images))
        pairs = list(zip(self.expected, found, strict=True))
        shares = [metrics.agreement(self.recipe.task, a, b)["top1_agreement"] for a, b in pairs]
        agreed = np.average(shares, weights=[len(pixels) for pixels in self.images])
        return {
            "drop": float(100 * (1 - agreed)),
            "relative_max": float(np.max([_relative(a[name], b[name]) for a, b in pairs for name in a])),
        }

    def error(self, typed: onnx.ModelProto) -> float:
        """The mean squared error of the outputs on a few images, as a share of what they are."""
        few, total = self._answers(typed, max(1, FEW // len(self.images[0]))), 0.0
        for expected, found in zip(self.expected, few, strict=False):
            for name, values in expected.items():
                total += float(np.square(found[name] - values).mean() / max(np.square(values).mean(), 1e-30))
        return total / len(few)

    def _answers(self, typed: onnx.ModelProto, count: int) -> list[dict[str, np.ndarray]]:
        made = session(numerics.twin(typed))
        found = [run(made, {self.name: pixels}) for pixels in self.images[:count]]
        if self.recipe.set_of_queries:
            found = [queries.ordered(a, b) for a, b in zip(self.expected, found, strict=False)]
        return found


def _relative(reference: np.ndarray, value: np.ndarray) -> float:
    """The largest error of a sample as a share of that sample's largest value: no batch shows a larger one."""
    rows = [metrics.errors(a[None], b[None])["relative_max"] for a, b in zip(reference, value, strict=True)]
    return float(np.max(rows))


def saved(
    wide: Iterable[Kernel], narrow: Iterable[Kernel], chip: Chip, of: Callable[[str], str] = block_of
) -> dict[str, float]:
    """Microseconds that being narrow saves in each block, by launches and floors; negative where it costs.

    ``of`` a module path makes what is added up: blocks, or their parts.
    """
    spent: dict[str, float] = {}
    for kernels, sign in ((wide, 1.0), (narrow, -1.0)):
        for kernel in kernels:
            place = kernel.mostly(of)
            spent[place] = spent.get(place, 0.0) + sign * (LAUNCH_US + floor(kernel, chip))
    return spent


def search(
    blocks: Sequence[str],
    made: Made,
    answers: Answers,
    savings: Mapping[str, float],
    goal: Goal,
    note: Callable[[str], None] = lambda text: None,
) -> list[dict]:
    """The table of the search, a row a graph that was measured; the last one's ``left`` are the blocks to widen.

    A row: ``left``, ``drop``, ``relative_max``, ``saved_us`` and ``own``, the error of the block that came last.
    """

    def row(out: Sequence[str]) -> dict:
        saves = sum(us for block, us in savings.items() if block not in out)
        return {"left": list(out), "saved_us": round(saves, 1)} | answers.measure(made(frozenset(out)))

    note("the answers with every block narrow")
    table = [row(())]
    if goal.met(table[0]):
        return table
    own = {}
    for i, block in enumerate(blocks):
        note(f"the error of {block} ({i + 1} of {len(blocks)})")
        own[block] = answers.error(made(frozenset(blocks) - {block}))
    order = sorted(blocks, key=lambda b: -own[b] / max(savings.get(b, 0.0), LEAST_US))
    for count in range(1, len(order) + 1):
        note(f"with {', '.join(order[max(0, count - 3) : count])} wide ({count} of {len(order)})")
        table.append(row(order[:count]) | {"own": own[order[count - 1]]})
        if goal.met(table[-1]):
            break
    return table


def release(
    wide: Sequence[str],
    parts: Mapping[str, Sequence[str]],
    savings: Mapping[str, float],
    made: Made,
    answers: Answers,
    goal: Goal,
    note: Callable[[str], None] = lambda text: None,
) -> tuple[list[str], dict[str, float]]:
    """(what must be wide of ``wide``, its measure): whole blocks, then ``parts`` of them, are narrow again if they can.

    What saves the most by being narrow is tried first; the goal is met before and after. ``savings`` are those of
    blocks and of parts.
    """
    kept, found = list(wide), answers.measure(made(frozenset(wide)))

    def without(name: str) -> bool:
        nonlocal found
        note(f"with {name} narrow again")
        fewer = answers.measure(made(frozenset(kept) - {name}))
        if goal.met(fewer):
            kept.remove(name)
            found = fewer
            return True
        return False

    def dearest(names: Sequence[str]) -> list[str]:
        return sorted(names, key=lambda name: -savings.get(name, 0.0))

    for block in dearest(wide):
        if without(block) or len(parts.get(block, ())) < 2:
            continue
        at = kept.index(block)
        kept[at : at + 1] = parts[block]
        for part in dearest(parts[block]):
            without(part)
    return kept, found
