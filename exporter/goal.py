"""``MAX_DROP``, ``MIN_TOP1_AGREEMENT`` and ``MAX_ERROR``: how far a narrow graph may be from the FP32 one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from exporter.errors import UsageError

LEAST_ERROR = 1e-5
"""Two correct FP32 implementations of a network differ by a tenth of this."""


@dataclass(frozen=True)
class Goal:
    """``drop``: points of top-1 agreement that may be lost (a detector's: of matched queries); ``error``: the largest
    difference of an output as a share of that image's largest value. None is no limit."""

    drop: float | None = None
    error: float | None = None

    def __bool__(self) -> bool:
        return self.drop is not None or self.error is not None

    def __str__(self) -> str:
        said = [f"MAX_DROP={self.drop:g}"] if self.drop is not None else []
        return " ".join(said + ([f"MAX_ERROR={self.error:g}"] if self.error is not None else []))

    @property
    def images(self) -> int:
        """The fewest images that can show the drop: one image of them is as many points as may be lost."""
        return ceil(100 / self.drop) if self.drop else 1

    def met(self, found: Mapping[str, float]) -> bool:
        """Whether ``found["drop"]`` and ``found["relative_max"]`` are within; never for NaN."""
        drop = self.drop is None or found["drop"] <= self.drop
        return drop and (self.error is None or found["relative_max"] <= self.error)


def parse(max_drop: str | float | None, min_top1: str | float | None, max_error: str | float | None) -> Goal:
    """The goal that the words make; ``min_top1`` is the same as a ``max_drop`` of 100 (1 - it).

    Raises :class:`UsageError` for words that are no numbers, out of range, or that contradict each other.
    """
    drop = _number(max_drop, "MAX_DROP", "points of top-1", 100, "0.5")
    share = _number(min_top1, "MIN_TOP1_AGREEMENT", "share of images", 1, "0.995")
    error = _number(max_error, "MAX_ERROR", "share of the largest output", 1, "0.001", LEAST_ERROR)
    if share is not None:
        if drop is not None:
            raise UsageError(
                "MAX_DROP and MIN_TOP1_AGREEMENT are the same budget",
                found=f"MAX_DROP={drop:g} MIN_TOP1_AGREEMENT={share:g}",
                expected="one of them",
                next=f"MAX_DROP={drop:g}",
            )
        drop = round(100 * (1 - share), 9)
    return Goal(drop, error)


def _number(
    text: str | float | None, name: str, what: str, most: float, example: str, least: float = 0
) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not least <= value <= most:
        raise UsageError(
            f"{name} is no {what}", found=text, expected=f"{least:g} to {most:g}", next=f"{name}={example}"
        )
    return value
