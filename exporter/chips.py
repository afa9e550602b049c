"""What GPUs can do, from NVIDIA's own documents: the one table that every floor of this tool is computed from.

Peaks are dense (where a datasheet counts sparsity, half of its figure), at boost clock, with FP32 accumulation of
FP16, BF16 and FP8 products and INT32 accumulation of INT8 ones: GeForce chips reach twice that with FP16
accumulation, which no engine of this tool uses.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """A GPU's limits: memory in GB/s, dense peaks in TFLOP/s with FP32 (INT32) accumulation, ``fp8`` None without it.

    ``source`` says from where; ``target`` is the compute capability, ``capacity`` the memory's size in GB, ``l2`` the
    cache's in MB.
    """

    name: str
    memory: float
    fp32: float
    tf32: float
    half: float
    int8: float
    fp8: float | None
    source: str
    target: str
    capacity: float
    l2: float

    def peak(self, math_type: str, tf32: bool) -> float:
        """FLOP/s of matrix products on operands of a compiler's type."""
        if math_type in ("Int8", "UInt8"):
            return self.int8 * 1e12
        if math_type == "FP8":
            return (self.fp8 or self.half) * 1e12
        if math_type in ("Half", "BFloat16"):
            return self.half * 1e12
        return (self.tf32 if tf32 else self.fp32) * 1e12


A100 = "NVIDIA A100 Tensor Core GPU datasheet (2021); L2: A100 Tensor Core GPU Architecture whitepaper, table 1"
ADA = "NVIDIA Ada GPU Architecture whitepaper 2.1, appendix A"
BLACKWELL = "NVIDIA RTX Blackwell GPU Architecture whitepaper 1.1, appendix A"
PRO = "NVIDIA RTX Blackwell PRO GPU Architecture whitepaper 1.0, appendix A"

CATALOGUE = {
    "t4": Chip("T4", 320, 8.1, 8.1, 65, 130, None, "NVIDIA T4 datasheet; L2: Turing GPU Architecture whitepaper",
               "sm75", 16, 4),
    "a10": Chip("A10", 600, 31.2, 62.5, 125, 250, None, "NVIDIA A10 datasheet, halved where it counts sparsity",
                "sm86", 24, 6),
    "l4": Chip("L4", 300, 30.3, 60, 121, 242, 242, "NVIDIA L4 datasheet, halved where it counts sparsity",
               "sm89", 24, 48),
    "rtx4090": Chip("RTX 4090", 1008, 82.6, 82.6, 165.2, 660.6, 330.3, ADA, "sm89", 24, 72),
    "a100-40": Chip("A100 40GB SXM", 1555, 19.5, 156, 312, 624, None, A100, "sm80", 40, 40),
    "a100-80": Chip("A100 80GB SXM", 2039, 19.5, 156, 312, 624, None, A100, "sm80", 80, 40),
    "h100": Chip("H100 SXM", 3350, 67, 494, 989, 1979, 1979,
                 "NVIDIA H100 datasheet, halved where it counts sparsity; L2: H100 Architecture whitepaper",
                 "sm90", 80, 50),
    "rtx5090": Chip("RTX 5090", 1792, 104.8, 104.8, 209.5, 838, 419, BLACKWELL, "sm120", 32, 96),
    "rtxpro6000": Chip("RTX PRO 6000", 1792, 126, 251.9, 503.8, 1007.6, 1007.6, PRO, "sm120", 96, 128),
}  # fmt: skip
"""Every GPU that floors are stated for, by the name that the knob PRICE takes."""

CHIPS = {CATALOGUE[name].target: CATALOGUE[name] for name in ("t4", "a100-80", "a10", "l4", "h100", "rtx5090")}
"""One chip a compute capability: the one that its figures are stated for."""


def nearest(target: str) -> Chip:
    """The chip of a compute capability; of the next lower one that has figures, to weigh kernels where it has none."""
    number = int(target.removeprefix("sm"))
    known = [int(name.removeprefix("sm")) for name in CHIPS]
    return CHIPS[f"sm{max((n for n in known if n <= number), default=min(known))}"]
