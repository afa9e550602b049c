"""``MAX_DROP``: the blocks that stay in 16 bits so that the network still answers what it answered.

The drop is the share of images, in points, on which the best class of the quantised graph (its numerics twin) is not
that of the FP32 graph; for a detector, of matched queries. Where it is beyond the budget, blocks go back to 16 bits one
by one, first the one with the largest error for each microsecond that its 8 bits save: its own error is the twin's with
that block alone quantised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

import numpy as np
import onnx

from exporter import metrics, numerics
from exporter.backends.onnxruntime import run, session
from exporter.kernels import Kernel
from exporter.observing import batches
from exporter.placement import Placement
from exporter.roofline import Chip, floor
from exporter.score import LAUNCH_US

IMAGES = 128
"""Images that the drop is measured on, at most."""

FEW = 16
"""Images that a block's own error is measured on."""

LEAST_US = 0.1
"""What a block saves counts as this much at least: one that saves nothing goes back first."""

Made = Callable[[Placement], onnx.ModelProto]
"""The typed graph of a placement, with a free batch."""


class Answers:
    """What the FP32 graph answers to the images, and how far other graphs are from it."""

    def __init__(self, model: onnx.ModelProto, rows: Iterable[np.ndarray], task: str):
        self.task = task
        self.name = model.graph.input[0].name
        self.images = list(batches(islice(rows, IMAGES)))
        made = session(model)
        self.expected = [run(made, {self.name: pixels}) for pixels in self.images]

    def drop(self, typed: onnx.ModelProto) -> float:
        """Points of top-1 agreement that the typed graph loses."""
        made = session(numerics.twin(typed))
        found = [run(made, {self.name: pixels}) for pixels in self.images]
        pairs = zip(self.expected, found, strict=True)
        shares = [metrics.agreement(self.task, a, b)["top1_agreement"] for a, b in pairs]
        return float(100 * (1 - np.average(shares, weights=[len(pixels) for pixels in self.images])))

    def error(self, typed: onnx.ModelProto) -> float:
        """The mean squared error of the outputs on a few images, as a share of what they are."""
        made, total = session(numerics.twin(typed)), 0.0
        few = max(1, FEW // len(self.images[0]))
        for pixels, expected in zip(self.images[:few], self.expected, strict=False):
            found = run(made, {self.name: pixels})
            for name, values in expected.items():
                total += float(np.square(found[name] - values).mean() / max(np.square(values).mean(), 1e-30))
        return total / few


def saved(base: Iterable[Kernel], quantised: Iterable[Kernel], chip: Chip) -> dict[str, float]:
    """Microseconds that 8 bits save in each block, by launches and floors; negative where they cost."""
    spent: dict[str, float] = {}
    for kernels, sign in ((base, 1.0), (quantised, -1.0)):
        for kernel in kernels:
            spent[kernel.block] = spent.get(kernel.block, 0.0) + sign * (LAUNCH_US + floor(kernel, chip))
    return spent


def search(
    at: Placement, made: Made, answers: Answers, savings: dict[str, float], most: float, note: Callable[[str], None]
) -> tuple[Placement, list[dict]]:
    """(what stays quantised, the table): blocks taken out of ``at`` until the drop is at most ``most`` points."""
    note("the drop of the whole placement")
    table = [{"left": [], "drop": answers.drop(made(at)), "saved_us": round(sum(savings.values()), 1)}]
    blocks = list(dict.fromkeys(p.block for p in at.products))
    if table[0]["drop"] <= most:
        return at, table
    errors = {}
    for i, block in enumerate(blocks):
        note(f"the error of {block} ({i + 1} of {len(blocks)})")
        errors[block] = answers.error(made(at.without(frozenset(blocks) - {block})))
    order = sorted(blocks, key=lambda b: -errors[b] / max(savings.get(b, 0.0), LEAST_US))
    for count in range(1, len(order) + 1):
        out = order[:count]
        note(f"without {', '.join(out[-3:])} ({count} of {len(order)})")
        kept = at.without(frozenset(out))
        left = sum(us for block, us in savings.items() if block not in out)
        row = {"left": out, "drop": answers.drop(made(kept)) if kept.products else 0.0, "saved_us": round(left, 1)}
        table.append(row | {"error": errors[out[-1]]})
        if row["drop"] <= most:
            break
    return kept, table
