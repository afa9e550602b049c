"""TARGET: which compute capabilities an engine is compiled for, and why some of them cannot be had."""

from __future__ import annotations

from exporter.backends import tensorrt
from exporter.errors import UsageError, nearest
from exporter.types import Precision

DEFAULT_TARGETS = ("sm80", "sm86", "sm89", "sm120")
GPUS = {
    "t4": "sm75",
    "rtx2080": "sm75",
    "a100": "sm80",
    "a30": "sm80",
    "a10": "sm86",
    "a40": "sm86",
    "rtx3090": "sm86",
    "l4": "sm89",
    "l40": "sm89",
    "l40s": "sm89",
    "rtx4090": "sm89",
    "rtx5090": "sm120",
}
"""Compute capabilities of GPUs that people name instead (https://developer.nvidia.com/cuda-gpus)."""

REFUSED_BY_RTX = {
    "sm90": "TensorRT-RTX compiles for GeForce and workstation GPUs and A100, not for Hopper",
    "sm100": "TensorRT-RTX does not compile for data-centre Blackwell",
    "sm103": "TensorRT-RTX does not compile for data-centre Blackwell",
    "sm70": "TensorRT-RTX begins with sm75 (Turing)",
}


def parse(text: str | None, backend: str, precision: Precision) -> tuple[str, ...]:
    """The compute capabilities to compile for, sorted and each once; refused where one cannot run the precision."""
    if backend == "tensorrt":
        return _native(text, precision)
    if text is None:
        return tuple(t for t in DEFAULT_TARGETS if t not in precision.refused)
    targets = tuple(dict.fromkeys(t.strip().lower() for t in text.split(",") if t.strip()))
    known = ",".join(tensorrt.RTX_TARGETS)
    if not targets:
        raise UsageError("TARGET names no compute capability", found=repr(text), expected=known, next="TARGET=sm80")
    for target in targets:
        if target not in tensorrt.RTX_TARGETS:
            why = REFUSED_BY_RTX.get(target, "TensorRT-RTX does not know this compute capability")
            hint = (
                f"BACKEND=tensorrt on a machine with that GPU ({target})"
                if target in REFUSED_BY_RTX
                else f"TARGET={GPUS.get(target) or nearest(target, tensorrt.RTX_TARGETS).split(', ')[0]}"
            )
            raise UsageError(why, found=target, expected=known, next=hint)
    _refuse(targets, precision)
    return tuple(sorted(targets, key=tensorrt.capability))


def _native(text: str | None, precision: Precision) -> tuple[str, ...]:
    device, why = tensorrt.cuda_device()
    if device is None:
        raise UsageError(
            "BACKEND=tensorrt compiles on the GPU of this machine and there is none",
            found=why,
            expected="an NVIDIA GPU with its driver",
            next="BACKEND=tensorrt-rtx compiles without a GPU",
        )
    if text and text.lower() not in (device, tensorrt.NATIVE):
        raise UsageError(
            "BACKEND=tensorrt compiles for the GPU of this machine only",
            found=text,
            expected=device,
            next=f"leave TARGET out, or BACKEND=tensorrt-rtx TARGET={text}",
        )
    _refuse((device,), precision)
    return (device,)


def _refuse(targets: tuple[str, ...], precision: Precision) -> None:
    bad = [t for t in targets if t in precision.refused]
    if bad:
        others = ",".join(t for t in targets if t not in bad)
        raise UsageError(
            f"{bad[0]} cannot run {precision.name}: {precision.refused[bad[0]]}",
            found=",".join(targets),
            expected=f"targets without {', '.join(bad)}",
            next=f"TARGET={others}" if others else "PRECISION=fp16",
        )
