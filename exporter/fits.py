"""Whether this machine can run a model at all, by arithmetic on shapes, before anything is allocated.

What is asked is the least that torch's own run in FP32 holds at one moment: the weights, and the largest operator's
inputs and output. A model that has room for these may still find no memory; one that has not never runs.
"""

from __future__ import annotations

import math

from exporter import growth, memory
from exporter.errors import UsageError
from exporter.growth import Cost
from exporter.types import Batch, Recipe

FLOAT = 4
"""Bytes of a number of the reference."""


def check(recipe: Recipe, batch: Batch) -> None:
    """Raise :class:`UsageError` with the arithmetic where the largest batch cannot fit into the memory there is.

    A system that does not tell its memory, and a module that cannot run on shapes alone, pass.
    """
    available = memory.available_bytes()
    cost = growth.cost(recipe, on_values=False) if available else None
    if cost is not None and needed(cost, batch.max) > available:
        raise _refused(recipe, batch, cost, available)


def needed(cost: Cost, images: int) -> int:
    """The least bytes that torch holds at once when it runs so many images."""
    return cost.stored_bytes + images * cost.held * FLOAT


def _refused(recipe: Recipe, batch: Batch, cost: Cost, available: int) -> UsageError:
    fitting = int((available - cost.stored_bytes) // (cost.held * FLOAT))
    height, width = recipe.preprocessing.size
    total = (
        f"{_gb(needed(cost, batch.max))} for a batch of {batch.max}: {_gb(cost.stored_bytes)} of weights and buffers"
    )
    smaller = f"IMAGE=<less than {height}x{width}>, or " if not recipe.fixed_image else ""
    return UsageError(
        f"the model cannot run here at {height}x{width} pixels: {_gb(needed(cost, batch.max))} at least",
        model=recipe.name,
        stage="memory",
        found="; ".join(filter(None, (_attention(cost), total + _each(cost), f"{_gb(available)} available"))),
        expected="a run of torch in FP32 that fits: every proof stands on it",
        next=f"BATCH={min(batch.min, fitting)}:{min(batch.opt, fitting)}:{fitting}"
        if fitting > 0
        else f"{smaller}a machine with more memory",
    )


def _attention(cost: Cost) -> str:
    """The arithmetic of the matrices of one image: tokens x tokens x heads x 4 bytes, and all layers together."""
    if not cost.matrices:
        return ""
    widest = max(cost.matrices, key=math.prod)
    *groups, queries, keys = (n for i, n in enumerate(widest) if i or n > 1)
    heads = f" x {math.prod(groups)} heads" if math.prod(groups) > 1 else ""
    every = sum(map(math.prod, cost.matrices)) * FLOAT
    return (
        f"an image's attention is {queries} x {keys} tokens{heads} x {FLOAT} bytes = "
        f"{_gb(math.prod(widest) * FLOAT)} a layer, {_gb(every)} in {len(cost.matrices)} layers"
    )


def _each(cost: Cost) -> str:
    return f", and the largest operator's {_gb(cost.held * FLOAT)} of inputs and output an image"


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
