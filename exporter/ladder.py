"""The parity ladder of a build, put together from its stages: every rung by name, and the images that it ran on."""

from __future__ import annotations

import math
from typing import Any

from exporter.build import Build

PARITY = ("raw_parity", "fp32_parity", "typed_parity", "engine_parity")
"""The stages that compare, in order."""


def rungs(build: Build) -> dict[str, dict]:
    """Every rung of the ladder by name, in order.

    ``times_noise`` is the largest error in units of the noise floor, what torch and ONNX Runtime differ by on the same
    FP32 graph.
    """
    found = {name: dict(rung) for stage in PARITY for name, rung in build.entries[stage].meta["rungs"].items()}
    floor = float(found["torch/raw"].get("relative_max", 0.0))
    for rung in found.values():
        if floor > 0 and math.isfinite(error := float(rung.get("relative_max", "nan"))):
            rung["times_noise"] = float(f"{error / floor:.3g}")
    return found


def ladder(build: Build) -> dict[str, Any]:
    """What ``parity.json`` holds: the rungs, and the images that they ran on."""
    return rungs(build) | {"samples": build.entries["reference"].meta["samples"]}
