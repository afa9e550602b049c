"""The least time that a chip needs for a list of kernels (Williams 2009, doi:10.1145/1498765.1498785).

Each kernel takes at least its bytes over the memory's bandwidth and its FLOPs over the peak of its type, whichever
is longer; kernels run one after the other. The model is weak where activations stay in the L2 cache (batch 1 on a
large chip: the true floor is lower, see :func:`resident`) and knows nothing of launch costs (the true time is higher,
see :func:`launched`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from exporter.chips import CHIPS, Chip, nearest
from exporter.kernels import MATRIX_KINDS, Kernel

__all__ = ["CHIPS", "LAUNCH_US", "Chip", "Limits", "floor", "launched", "limits", "microseconds", "nearest", "resident"]

LAUNCH_US = 1.5
"""What a kernel costs beside its work, in microseconds: an assumption, of the order of the gap between two dependent
kernels of one CUDA graph. It weighs kernels against bytes; where a GPU is, measure instead."""


@dataclass(frozen=True)
class Limits:
    """What one kernel cannot be faster than on one chip, in microseconds: its bytes, its FLOPs."""

    memory_us: float
    math_us: float
    unit: str
    """What multiplies: ``tensor core``, or ``FP32 units`` for FP32 products without TF32."""

    @property
    def floor_us(self) -> float:
        return max(self.memory_us, self.math_us)

    @property
    def bound(self) -> str:
        """What the kernel waits for most: ``launch`` where its work is shorter than starting it."""
        if max(self.memory_us, self.math_us) < LAUNCH_US:
            return "launch"
        return "memory" if self.memory_us >= self.math_us else self.unit


def limits(kernel: Kernel, chip: Chip, tf32: bool = False) -> Limits:
    """One kernel's limits on ``chip``; its sizes must be known."""
    kind = kernel.math_type
    wide = kind not in ("Half", "BFloat16", "Int8", "UInt8", "FP8") and not (tf32 and kernel.kind in MATRIX_KINDS)
    return Limits(
        1e6 * kernel.bytes / (chip.memory * 1e9),
        1e6 * kernel.flops / chip.peak(kind, tf32),
        "FP32 units" if wide else "tensor core",
    )


def microseconds(kernels: Iterable[Kernel], chip: Chip, tf32: bool = False) -> float:
    """The sum of the kernels' floors on ``chip``; every kernel must have known sizes."""
    return sum(floor(k, chip, tf32) for k in kernels)


def floor(kernel: Kernel, chip: Chip, tf32: bool = False) -> float:
    """One kernel's floor in microseconds."""
    return limits(kernel, chip, tf32).floor_us


def resident(kernels: Sequence[Kernel], chip: Chip, tf32: bool = False) -> float:
    """The floor in microseconds if the L2 cache gave all that it can hold for nothing.

    A kernel's activations cost nothing where they fit in the cache together; weights cost nothing where all of the
    model's fit beside the largest activations. Nobody is faster than this on ``chip``: it is the lower of the two
    bounds, and at batch 1 on a chip with a large cache the nearer one.
    """
    cache = chip.l2 * 1e6
    activations = [sum(t.bytes for t in (*k.inputs, *k.outputs)) for k in kernels]
    weights = sum(_weights(k) for k in kernels)
    held = weights + max(activations, default=0) <= cache
    total = 0.0
    for kernel, moved in zip(kernels, activations, strict=True):
        read = (0 if held else _weights(kernel)) + (0 if moved <= cache else moved)
        total += max(1e6 * read / (chip.memory * 1e9), limits(kernel, chip, tf32).math_us)
    return total


def launched(kernels: Sequence[Kernel], chip: Chip, tf32: bool = False) -> float:
    """The floor with ``LAUNCH_US`` for every kernel, in microseconds: what to expect of a good engine, not a bound."""
    return len(kernels) * LAUNCH_US + microseconds(kernels, chip, tf32)


def _weights(kernel: Kernel) -> int:
    return sum(t.bytes for t in kernel.constants)
