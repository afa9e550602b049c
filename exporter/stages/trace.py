"""torch module -> ``raw.onnx``, once per model."""

from __future__ import annotations

from pathlib import Path

from exporter.build import Build
from exporter.registry import recipe_source
from exporter.stages.reference import versions
from exporter.store import Entry

NAME = "trace"
NEEDS = ("weights",)
CODE = ("exporter.trace", "exporter.onnxio", "exporter.weights", "exporter.checkpoint")
FILE = "raw.onnx"


def parts(build: Build) -> dict:
    recipe = build.recipe
    return {
        "recipe": recipe_source(recipe),
        "name": recipe.name,
        "image": recipe.preprocessing.size,
        "opset": recipe.opset,
        "classes": build.spec.classes,
        "versions": versions("torch", "torchvision", "timm", "transformers", "onnx", "onnxscript", "onnx-ir"),
    }


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    from exporter import onnxio, trace

    build.note("torch.onnx.export")
    model = trace.export(build.module, build.recipe)
    build.forget_module()
    build.note("writing raw.onnx")
    onnxio.save(model, folder / FILE)
    return {"nodes": len(model.graph.node), "opset": onnxio.opset(model)}, {FILE: model}


def summary(entry: Entry) -> str:
    return f"{entry.meta['nodes']} nodes, opset {entry.meta['opset']}, {entry.bytes / 1e6:.0f} MB"
