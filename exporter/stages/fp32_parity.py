"""torch against ``raw.onnx`` and ``raw.onnx`` against ``model.fp32.onnx``, in ONNX Runtime; once per model."""

from __future__ import annotations

from pathlib import Path

from exporter.build import Build
from exporter.stages import reference
from exporter.store import Entry

NAME = "fp32_parity"
NEEDS = ("reference", "trace", "rewrite")
CODE = ("exporter.parity", "exporter.metrics", "exporter.samples", "exporter.backends.onnxruntime")


def parts(build: Build) -> dict:
    return {
        "batch": str(build.request.batch),
        "tolerance": vars(build.recipe.tolerances["fp32"]),
        "task": build.recipe.task,
        "versions": reference.versions("onnxruntime", "polygraphy", "numpy"),
    }


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    from exporter import arrays, parity

    feeds, expected = planned(build)
    tolerance = build.recipe.tolerances["fp32"]
    images = len(build.samples.names)
    build.note("raw.onnx in ONNX Runtime")
    raw = parity.run_onnx(build.model("trace", "raw.onnx"), feeds)
    build.entries["trace"].memory.clear()
    build.note("model.fp32.onnx in ONNX Runtime")
    rewritten = parity.run_onnx(build.model("rewrite", "model.fp32.onnx"), feeds)
    rungs = {
        "torch/raw": parity.compare(build.recipe, tolerance, expected, raw, images),
        "raw/rewritten": parity.compare(build.recipe, tolerance, raw, rewritten, images),
    }
    arrays.write(folder / "rewritten.npz", rewritten)
    return {"rungs": {name: rung.as_dict() for name, rung in rungs.items()}}, {"rewritten": rewritten}


def planned(build: Build) -> tuple[list[dict], list[dict]]:
    """(feeds, what torch answers to them), batch by batch: the schedule of the request's profile."""
    from exporter import samples

    pixels = build.samples.pixels
    plan = samples.schedule(len(pixels), build.request.batch)
    answers = reference.outputs(build)
    name = build.recipe.inputs[0].name
    return [{name: pixels[rows]} for rows in plan], [{k: v[rows] for k, v in answers.items()} for rows in plan]


def answers(build: Build, stage: str, name: str) -> list[dict]:
    """What a graph answered in an earlier comparison, batch by batch: ``<name>.npz`` of a parity stage."""
    from exporter import arrays

    entry = build.entries[stage]
    if name not in entry.memory:
        entry.memory[name] = arrays.read(entry.path(f"{name}.npz"))
    return entry.memory[name]


def summary(entry: Entry) -> str:
    return ", ".join(
        f"{name} {rung['status']}" + (f" ({float(rung['max_abs']):.1e})" if "max_abs" in rung else "")
        for name, rung in entry.meta["rungs"].items()
    )
