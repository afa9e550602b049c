"""Which of a graph's units is the first at fault: one that adds too much, or one that is not there and should be."""

from __future__ import annotations

import re

import numpy as np

from exporter.located import Located, Unit
from exporter.units import owner


def first(found: Located, limit: float, failed: bool) -> Unit | None:
    """The first unit, in the order in which they run, that adds more than ``limit``, or that the graph lost.

    A unit that is not found beyond doubt counts where the rung failed, other units of its kind were found or nothing
    behind it was. What was looked for in vain on the way to the first fault, and was there in earlier blocks, is nearer
    to it.
    """
    last = max((i for i, u in enumerate(found.units) if u.sure), default=-1)
    kinds = {_kind(u.name) for u in found.units if u.sure}
    sure, absent = 0, set()  # the last unit without a doubt; kinds that were missing before it
    for i, unit in enumerate(found.units):
        if unit.sure and unit.own <= limit:
            absent |= {_kind(u.name) for u in found.units[sure:i] if u.tensor is None}
            sure = i
        elif unit.sure or _due(unit, kinds, limit, failed or i > last):
            before = (u for u in found.units[sure:i] if u.tensor is None and u.distance < np.inf)
            return next((u for u in before if _kind(u.name) not in absent), unit)
    return next((u for i, u in enumerate(found.units) if failed and _lost(u, i, found)), None)


def _due(unit: Unit, kinds: set[str], limit: float, failed: bool) -> bool:
    """Whether a unit that the graph answers a little differently, or not at all, should be in it."""
    known = _kind(unit.name) in kinds
    if unit.tensor is not None:
        return not unit.own <= limit and (failed or known)
    return unit.distance < np.inf and failed and known


def _kind(name: str) -> str:
    """What the units of all blocks have in common: ``layers.#.blocks.#.attn``."""
    return re.sub(r"\d+", "#", name)


def _lost(unit: Unit, place: int, found: Located) -> bool:
    """Whether a unit should be in the graph and is not: nothing that stands on it is there, either."""
    if unit.tensor is not None:
        return False
    parent = owner(unit.name).rpartition(".")[0]
    after = [owner(u.name) for u in found.units[place + 1 :] if u.tensor is not None]
    return not any(unit.name.startswith(f"{n}.") or n.rpartition(".")[0] == parent for n in after)
