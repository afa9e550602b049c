"""``model.fp32.onnx`` -> the same with its attention in the form that was chosen, once per form whyever."""

from __future__ import annotations

from pathlib import Path

from exporter.build import Build
from exporter.choice import choose
from exporter.stages import rewrite
from exporter.stages.reference import versions
from exporter.store import Entry

NAME = "form"
NEEDS = ("rewrite",)
CODE = ("exporter.onnxio", *rewrite.REWRITING)
FILE = "formed.onnx"


def parts(build: Build) -> dict:
    chosen = choose(build.request)
    if stale := chosen.stale(build.request.backend):
        build.store.warn(stale)
    return {
        "form": rewrite.steps(chosen.steps(build.request.unbiased, build.request.without)),
        "native_image": build.request.native_image,
        "versions": versions("onnx", "onnx-graphsurgeon", "onnxruntime", "numpy"),
    }


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    from exporter import onnxio, rewriting

    chosen = choose(build.request)
    canonical = build.model("rewrite", rewrite.FILE)
    answers = list(build.entries["rewrite"].memory.get("answers", ()))
    model, reports = rewriting.rewrite(
        canonical,
        build.recipe,
        steps=chosen.steps(build.request.unbiased, build.request.without),
        native_image=build.request.native_image,
        progress=build.note,
        answers=answers,
    )
    build.note(f"writing {FILE}")
    onnxio.save(model, folder / FILE)
    return {
        "form": chosen.form,
        "rewrites": [r.as_dict() for r in reports],
        "nodes": len(model.graph.node),
    }, {FILE: model, "answers": answers}


def summary(entry: Entry) -> str:
    return f"{entry.meta['form']}, {entry.meta['nodes']} nodes"
