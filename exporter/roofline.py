"""The least time that a chip needs for a list of kernels (Williams 2009, doi:10.1145/1498765.1498785).

Each kernel takes at least its bytes over the memory's bandwidth and its FLOPs over the peak of its type, whichever
is longer; kernels run one after the other. The model is weak where activations stay in the L2 cache (batch 1 on a
large chip: the true floor is lower) and knows nothing of launch costs (the true time is higher).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from exporter.kernels import Kernel


@dataclass(frozen=True)
class Chip:
    """A GPU's limits: memory in GB/s, dense peaks in TFLOP/s with FP32 (INT32) accumulation, ``fp8`` None without it.

    ``source`` says from where.
    """

    name: str
    memory: float
    fp32: float
    tf32: float
    half: float
    int8: float
    fp8: float | None
    source: str

    def peak(self, math_type: str, tf32: bool) -> float:
        """FLOP/s of matrix products on operands of a compiler's type."""
        if math_type in ("Int8", "UInt8"):
            return self.int8 * 1e12
        if math_type == "FP8":
            return (self.fp8 or self.half) * 1e12
        if math_type in ("Half", "BFloat16"):
            return self.half * 1e12
        return (self.tf32 if tf32 else self.fp32) * 1e12


CHIPS = {
    "sm75": Chip("T4", 320, 8.1, 8.1, 65, 130, None, "NVIDIA T4 datasheet"),
    "sm80": Chip("A100 80GB SXM", 2039, 19.5, 156, 312, 624, None, "NVIDIA A100 datasheet"),
    "sm86": Chip("A10", 600, 31.2, 62.5, 125, 250, None, "NVIDIA A10 datasheet"),
    "sm89": Chip("L4", 300, 30.3, 60, 121, 242, 242, "NVIDIA L4 datasheet, halved where it counts sparsity"),
    "sm90": Chip("H100 SXM", 3350, 67, 494, 989, 1979, 1979, "NVIDIA H100 datasheet, halved where it counts sparsity"),
    "sm120": Chip("RTX 5090", 1792, 104.8, 104.8, 209.5, 838, 419, "NVIDIA RTX Blackwell GPU architecture whitepaper"),
}
"""One chip a compute capability: the one that its figures are stated for."""


def nearest(target: str) -> Chip:
    """The chip of a compute capability; of the next lower one that has figures, to weigh kernels where it has none."""
    number = int(target.removeprefix("sm"))
    known = [int(name.removeprefix("sm")) for name in CHIPS]
    return CHIPS[f"sm{max((n for n in known if n <= number), default=min(known))}"]


def microseconds(kernels: Iterable[Kernel], chip: Chip, tf32: bool = False) -> float:
    """The sum of the kernels' floors on ``chip``; every kernel must have known sizes."""
    return sum(floor(k, chip, tf32) for k in kernels)


def floor(kernel: Kernel, chip: Chip, tf32: bool = False) -> float:
    """One kernel's floor in microseconds."""
    return 1e6 * max(kernel.bytes / (chip.memory * 1e9), kernel.flops / chip.peak(kernel.math_type, tf32))
