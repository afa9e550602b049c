"""``model.fp32.onnx`` against ``model.onnx``, the latter through its numerics twin, and torch against the same."""

from __future__ import annotations

from pathlib import Path

from exporter.build import Build
from exporter.stages import raw_parity, reference

NAME = "typed_parity"
NEEDS = ("fp32_parity", "type")
CODE = ("exporter.numerics", "exporter.casting", "exporter.keeping", "exporter.shapes", *raw_parity.CODE)
PROOF = True


def parts(build: Build) -> dict:
    return {
        "batch": str(build.request.batch),
        "tf32": build.request.precision.tf32,
        "tolerance": vars(raw_parity.tolerance(build)),
        "versions": reference.versions("onnxruntime", "polygraphy", "numpy"),
    }


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    from exporter import arrays, numerics, parity, samples

    precision = build.request.precision
    if precision.element_type == "float32" and not precision.tf32:
        why = "FP32 types nothing: the graph is the rewritten one"
        arrays.write(folder / "typed.npz", raw_parity.answers(build, "fp32_parity", "rewritten"))
        return {"rungs": {"rewritten/typed": parity.Rung(parity.NOT_RUN, why).as_dict()}}, {}
    numerics.canary()
    noise = not precision.quantized
    feeds, expected = raw_parity.planned(build, noise)
    build.note(f"the numerics twin of {precision.name}")
    typed = parity.run_onnx(numerics.twin(build.model("type", "model.onnx"), precision.tf32), feeds)
    tolerance = raw_parity.tolerance(build)
    images = len(build.samples.names) - (0 if noise else samples.NOISE_ROWS)
    rewritten = raw_parity.answers(build, "fp32_parity", "rewritten", noise)
    rungs = {
        "rewritten/typed": parity.compare(build.recipe, tolerance, rewritten, typed, images),
        "torch/typed": parity.compare(build.recipe, tolerance, expected, typed, images),
    }
    arrays.write(folder / "typed.npz", typed)
    return {"rungs": {name: rung.as_dict() for name, rung in rungs.items()}}, {"typed": typed}


summary = raw_parity.summary
