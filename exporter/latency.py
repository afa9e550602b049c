"""Statistics of latencies, as trtexec defines them (NVIDIA/TensorRT, samples/common/sampleReporting.cpp), and ratios of
runs that took turns. Seconds go in, milliseconds come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import floor, sqrt

import numpy as np

PERCENTILES = (90, 95, 99)

SPREAD = 0.10
"""Middle half of the ratios, as a share of their median, from which on a run is called noisy."""

FEWEST = 6
"""Pairs below which the sign test has no 95 % interval at all."""


def percentile(ascending: Sequence[float], share: float) -> float:
    """The value that trtexec calls the percentile ``share``: all but the slowest ``(1 - share/100) n`` are at most it.

    Their number is truncated in single precision, as there: the 99th percentile of 100 values is the largest.
    """
    if not 0 <= share <= 100:
        raise ValueError(f"a percentile of {share}")
    exclude = int((np.float32(1) - np.float32(share) / np.float32(100)) * np.float32(len(ascending)))
    return ascending[max(len(ascending) - 1 - exclude, 0)]


def median(ascending: Sequence[float]) -> float:
    """The middle value, or the mean of the two."""
    middle = len(ascending) // 2
    return ascending[middle] if len(ascending) % 2 else (ascending[middle - 1] + ascending[middle]) / 2


@dataclass(frozen=True)
class Summary:
    """One quantity over all queries, in milliseconds; ``p50`` is trtexec's median, ``cv`` deviation over mean."""

    queries: int
    min: float
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    cv: float

    def as_dict(self) -> dict:
        return {k: v if isinstance(v, int) else round(v, 5) for k, v in asdict(self).items()}


def summary(seconds: Sequence[float]) -> Summary:
    """Of at least one query."""
    if not seconds:
        raise ValueError("no queries")
    ascending = sorted(1e3 * s for s in seconds)
    mean = sum(ascending) / len(ascending)
    deviation = sqrt(sum((s - mean) ** 2 for s in ascending) / len(ascending))
    return Summary(
        len(ascending),
        ascending[0],
        mean,
        median(ascending),
        *(percentile(ascending, share) for share in PERCENTILES),
        ascending[-1],
        deviation / mean if mean else 0.0,
    )


def throughput(queries: int, batch: int, seconds: float) -> dict[str, float]:
    """Queries and images a second over the wall time from the first query's start to the last one's end."""
    return {
        "queries_per_second": round(queries / seconds, 3),
        "images_per_second": round(queries * batch / seconds, 3),
    }


@dataclass(frozen=True)
class Ratio:
    """How many times as long the other one took, pair by pair: median, middle half, 95 % interval of the median."""

    pairs: int
    median: float
    low: float
    high: float
    interval: tuple[float, float] | None

    @property
    def spread(self) -> float:
        """The middle half's width as a share of the median."""
        return (self.high - self.low) / self.median

    @property
    def verdict(self) -> str:
        """``faster`` or ``slower`` than the other one, or that this run cannot tell."""
        if self.interval is None or self.interval[0] <= 1 <= self.interval[1]:
            return "cannot tell"
        return "faster" if self.median > 1 else "slower"

    def as_dict(self) -> dict:
        ends = None if self.interval is None else [round(end, 4) for end in self.interval]
        numbers = {k: round(getattr(self, k), 4) for k in ("median", "low", "high", "spread")}
        return {"pairs": self.pairs, **numbers, "interval": ends, "verdict": self.verdict}


def ratio(others: Sequence[float], ours: Sequence[float]) -> Ratio:
    """``others[i] / ours[i]`` for runs that stood next to each other."""
    ascending = sorted(a / b for a, b in zip(others, ours, strict=True))
    if not ascending:
        raise ValueError("no pairs")
    low, high = (percentile(ascending, share) for share in (25, 75))
    return Ratio(len(ascending), median(ascending), low, high, _interval(ascending))


def _interval(ascending: Sequence[float]) -> tuple[float, float] | None:
    """The order statistics between which the true median lies with 95 % (sign test, normal approximation)."""
    count = len(ascending)
    if count < FEWEST:
        return None
    below = max(floor((count - 1.96 * sqrt(count)) / 2) - 1, 0)
    return ascending[below], ascending[count - 1 - below]
