"""The parity ladder of a build, put together from its stages: every rung by name, and the images that it ran on."""

from __future__ import annotations

import math
from typing import Any

from exporter.build import Build

PARITY = ("raw_parity", "fp32_parity", "typed_parity", "engine_parity")
"""The stages that compare, in order."""


def rungs(build: Build) -> dict[str, dict]:
    """Every rung of the ladder by name, in order.

    ``times_noise`` is the largest error in units of the noise floor, ``allowed_times_noise`` the tolerance.
    """
    found = {name: dict(rung) for stage in PARITY for name, rung in build.entries[stage].meta["rungs"].items()}
    floor = noise_floor(build)["relative_max"]
    for rung in found.values():
        if floor > 0 and math.isfinite(error := float(rung.get("relative_max", "nan"))):
            rung["times_noise"] = _short(error / floor)
            rung["allowed_times_noise"] = _short(rung["tolerance"]["relative_max"] / floor)
    return found


def noise_floor(build: Build) -> dict[str, Any]:
    """What two correct implementations differ by, as a share of the largest output: ``relative_max`` is the larger of
    torch against ONNX Runtime on the same FP32 graph and of ONNX Runtime on two numbers of ``threads``."""
    meta = build.entries["raw_parity"].meta
    torch = float(meta["rungs"]["torch/raw"].get("relative_max", "nan"))
    threads = float(meta["threads"]["relative_max"])
    known = [x for x in (torch, threads) if math.isfinite(x)]
    return {
        "relative_max": _short(max(known, default=0.0)),
        "torch_onnxruntime": _short(torch) if math.isfinite(torch) else str(torch),
        "threads": meta["threads"]["counts"],
        "between_threads": _short(threads) if math.isfinite(threads) else str(threads),
    }


def _short(number: float) -> float:
    return float(f"{number:.3g}")


def ladder(build: Build) -> dict[str, Any]:
    """What ``parity.json`` holds: the rungs, and the images that they ran on."""
    return rungs(build) | {"samples": build.entries["reference"].meta["samples"]}
