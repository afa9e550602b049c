"""How far a tensor's values are let into eight bits: the clipping range (amax) out of a histogram of absolute values.

A histogram has ``BINS`` equal bins over 0..the largest absolute value, so it can be filled batch by batch. Beyond amax
values saturate; the smaller it is, the finer all others are. Four methods choose it:

* ``minmax``: the largest absolute value; nothing saturates.
* ``percentile``: the value that 99.99 % of the elements are below.
* ``entropy``: the least Kullback-Leibler divergence between the clipped distribution and its quantised form
  (Migacz 2017, "8-bit Inference with TensorRT", GTC S7310).
* ``mse``: the least mean squared error of rounding and saturation together (Banner et al. 2019, arXiv:1810.05723).

onnxruntime's calibrators compute the first three, too, but keep every tensor of every batch until the end (gigabytes
for a few dozen images) and take seconds a tensor for the divergence.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

BINS = 2048
PERCENTILE = 0.9999
LEVELS = 128
"""Levels of one sign of an 8-bit integer."""

Rounded = Callable[[np.ndarray, float], np.ndarray]
"""``rounded(values, amax)``: values as the quantised type keeps them, saturated at ``amax``."""


class Histogram:
    """(BINS,) ``counts`` of absolute values over 0..``range``, filled batch by batch; ``largest`` is the largest one.

    The range doubles where a batch exceeds it, and pairs of bins become one.
    """

    def __init__(self):
        self.counts = np.zeros(BINS, np.int64)
        self.range = 0.0
        self.largest = 0.0

    def add(self, values: np.ndarray, largest: float) -> None:
        """Count ``values``, a sample of a batch whose largest absolute value is ``largest``."""
        self.largest = max(self.largest, largest)
        self.range = self.range or largest
        while 0 < self.range < largest:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64)])
            self.range *= 2
        if self.range:
            places = np.abs(values.reshape(-1)) * np.float32(BINS / self.range)
            self.counts += np.bincount(np.minimum(places, BINS - 1).astype(np.int32), minlength=BINS)


def int8(values: np.ndarray, amax: float) -> np.ndarray:
    """Signed 8-bit integers, symmetric."""
    scale = amax / 127
    return np.clip(np.rint(values / scale), -127, 127) * scale


def float8(values: np.ndarray, amax: float) -> np.ndarray:
    """FP8 E4M3 (Micikevicius et al. 2022, arXiv:2209.05433), scaled so that ``amax`` is its largest number."""
    import ml_dtypes

    scale = amax / 448
    return np.clip(values / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * scale


def amax(seen: Histogram, method: str, rounded: Rounded = int8) -> float:
    """The clipping range by ``method``; never beyond the largest value seen."""
    return min(METHODS[method](seen, rounded), seen.largest)


def minmax(seen: Histogram, rounded: Rounded) -> float:
    return seen.largest


def percentile(seen: Histogram, rounded: Rounded) -> float:
    share = np.cumsum(seen.counts) / seen.counts.sum()
    return seen.range * (int(np.searchsorted(share, PERCENTILE)) + 1) / BINS


def entropy(seen: Histogram, rounded: Rounded) -> float:
    counts = seen.counts.astype(np.float64)
    ends = np.arange(LEVELS, BINS + 1, 8)
    return seen.range * ends[int(np.argmin([_divergence(counts, end) for end in ends]))] / BINS


def _divergence(counts: np.ndarray, end: int) -> float:
    """KL(p || q): p is the histogram clipped at ``end``, q the same in ``LEVELS`` levels, spread over p's own bins."""
    p = counts[:end].copy()
    starts = np.arange(LEVELS) * end // LEVELS
    filled = (p > 0).astype(np.float64)
    inside = np.add.reduceat(filled, starts)
    sums = np.add.reduceat(p, starts)
    level = np.repeat(np.arange(LEVELS), np.diff([*starts, end]))
    q = filled * (sums / np.maximum(inside, 1))[level]
    p[-1] += counts[end:].sum()
    p, q = p / p.sum(), q / max(q.sum(), 1e-300)
    both = (p > 0) & (q > 0)
    lost = p[(p > 0) & (q == 0)].sum()  # smoothing would give it a little of q; it must not be free
    return float((p[both] * np.log(p[both] / q[both])).sum() + lost * np.log(1e4))


def mse(seen: Histogram, rounded: Rounded) -> float:
    values = (np.arange(BINS) + 0.5) * seen.range / BINS
    ranges = seen.range * np.arange(BINS // 16, BINS + 1, 16) / BINS
    errors = [(seen.counts * (rounded(values, r) - values) ** 2).sum() for r in ranges]
    return float(ranges[int(np.argmin(errors))])


METHODS: dict[str, Callable[[Histogram, Rounded], float]] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}
