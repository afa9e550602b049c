"""The roofline as a picture: how much each kernel computes for a byte that it moves, under one GPU's roof.

Williams 2009, doi:10.1145/1498765.1498785. Nothing here was measured: a kernel stands where the GPU's memory or
arithmetic would stop it, left of the ridge by memory, right of it by arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exporter import roofline
from exporter.kernels import Kernel
from exporter.reporting import plots
from exporter.reporting.published import Published

WIDEST, NARROWEST = 0.1, 4000.0
"""FLOPs for a byte, at the ends of the roof."""


def of(bundles: Sequence[Published]) -> dict[str, Any] | None:
    """The plot, its label and the GPU; None where no bundle has products of known sizes."""
    chip = next((roofline.CHIPS[t] for b in bundles for t in b.manifest["kernels"] if t in roofline.CHIPS), None)
    if chip is None:
        return None
    points, bound = {}, {}
    for b in bundles:
        try:
            kernels = [Kernel.from_dict(k) for k in b.kernels["at_opt"]] if b.kernels else []
        except (KeyError, TypeError):
            continue
        tf32 = b.manifest["precision"] == "tf32"
        limits = [(k, roofline.limits(k, chip, tf32)) for k in kernels if k.bytes and k.flops]
        if not limits:
            continue
        points[b.name] = [(k.flops / k.bytes, k.flops / at.floor_us / 1e6) for k, at in limits]
        bound[b.name] = sum(at.memory_us >= at.math_us for _, at in limits)
    if not points:
        return None
    roofs = {name: _roof(chip, peak) for name, peak in _peaks(chip, points).items()}
    axes = ("FLOP for a byte", "TFLOP/s at most")
    said = "; ".join(f"{n}: {bound[n]} of {len(p)} products held by memory" for n, p in points.items())
    return {
        "plot": plots.scatter("roofline", axes, points, roofs, logarithmic=True),
        "label": f"Roofline of {chip.name}. {said}",
        "chip": chip.name,
    }


def _peaks(chip, points: dict) -> dict[str, float]:
    """The roofs that the precisions shown have, in TFLOP/s."""
    named = {"FP32": chip.fp32, "TF32": chip.tf32, "FP16, BF16": chip.half, "INT8": chip.int8}
    wanted = {"fp32": ("FP32",), "tf32": ("TF32",), "fp16": ("FP16, BF16",), "bf16": ("FP16, BF16",)}
    names = {n for b in points for n in wanted.get(b.partition(".failed")[0], ("FP16, BF16", "INT8"))}
    return {name: peak for name, peak in named.items() if name in names}


def _roof(chip, peak: float) -> list[tuple[float, float]]:
    """Up along the memory's bandwidth, then along the peak."""
    slope = chip.memory / 1e3  # TB/s: TFLOP/s at one FLOP a byte
    return [(WIDEST, WIDEST * slope), (peak / slope, peak), (NARROWEST, peak)]
