"""``model.fp32.onnx`` -> ``model.onnx``: attention in the form that was tuned, then strongly typed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from exporter.build import Build
from exporter.choice import Choice, choose
from exporter.stages import rewrite
from exporter.stages.reference import versions
from exporter.store import Entry
from exporter.types import Request

NAME = "type"
NEEDS = ("rewrite",)
CODE = ("exporter.casting", "exporter.keeping", "exporter.onnxio", "exporter.choice", *rewrite.REWRITING)
FILE = "model.onnx"


def parts(build: Build) -> dict:
    from exporter.registry import source

    name, chosen = build.request.precision.name, choose(build.request)
    if stale := chosen.stale(build.request.backend):
        build.store.warn(stale)
    return {
        "precision": name,
        "io": build.request.io,
        "code": source(f"exporter.precisions.{name}"),
        "keep_fp32": sorted(build.request.precision.keep_fp32),
        "choice": (chosen.form, chosen.why, chosen.compiler),
        "form": rewrite.steps(chosen.steps()),
        "static_batch": build.request.batch.opt if build.request.batch.static else None,
        "versions": versions("onnx", "ml-dtypes", "numpy"),
    }


def make(
    canonical,
    request: Request,
    chosen: Choice,
    note: Callable[[str], None] = lambda text: None,
    answers: list | None = None,
):
    """(typed graph, reports of the rewrites): attention in the chosen form, then the precision, then the batch.

    ``answers`` is what the canonical graph answered when it was checked, where this process did that.
    """
    import onnx

    from exporter import casting, onnxio, rewriting

    formed, reports = rewriting.rewrite(
        canonical, request.recipe, steps=chosen.steps(), progress=note, answers=list(answers or ())
    )
    model = onnx.ModelProto()
    model.CopyFrom(formed)
    typed = casting.cast(model, request.precision, request.io)
    if request.batch.static:
        onnxio.fix_batch(typed.model, request.batch.opt)
    note("checking model.onnx")
    onnxio.check(typed.model)
    return typed, reports


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    from exporter import onnxio
    from exporter.emitted import softmaxes

    chosen = choose(build.request)
    answers = build.entries["rewrite"].memory.get("answers")
    typed, reports = make(build.model("rewrite", "model.fp32.onnx"), build.request, chosen, build.note, answers)
    build.note("writing model.onnx")
    onnxio.save(typed.model, folder / FILE)
    return {
        "form": {"name": chosen.form, "why": chosen.why, "compiler": chosen.compiler},
        "rewrites": [r.as_dict() for r in reports],
        "nodes": len(typed.model.graph.node),
        "opset": onnxio.opset(typed.model),
        "casts": typed.casts,
        "kept_fp32": typed.kept,
        "attention": softmaxes(typed.model),
        "inputs": [onnxio.describe(v) for v in typed.model.graph.input],
        "outputs": [onnxio.describe(v) for v in typed.model.graph.output],
    }, {FILE: typed.model}


def summary(entry: Entry) -> str:
    meta = entry.meta
    kept = f", {len(meta['kept_fp32'])} nodes kept in FP32" if meta["kept_fp32"] else ""
    return f"{meta['form']['name']}, {meta['nodes']} nodes, {meta['casts']} casts{kept}, {entry.bytes / 1e6:.0f} MB"
