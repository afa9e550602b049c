"""``raw.onnx`` against ``model.fp32.onnx``, both in ONNX Runtime; once per model."""

from __future__ import annotations

from pathlib import Path

from exporter.build import Build
from exporter.stages import raw_parity
from exporter.stages.raw_parity import answers, planned

NAME = "fp32_parity"
NEEDS = ("raw_parity", "rewrite")
CODE = raw_parity.CODE
PROOF = True

parts = raw_parity.parts
summary = raw_parity.summary


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    from exporter import arrays, parity

    feeds, _ = planned(build)
    build.note("model.fp32.onnx in ONNX Runtime")
    rewritten = parity.run_onnx(build.model("rewrite", "model.fp32.onnx"), feeds)
    tolerance = build.recipe.tolerances["fp32"]
    raw = answers(build, "raw_parity", "raw")
    rung = parity.compare(build.recipe, tolerance, raw, rewritten, len(build.samples.names))
    arrays.write(folder / "rewritten.npz", rewritten)
    return {"rungs": {"raw/rewritten": rung.as_dict()}}, {"rewritten": rewritten}
