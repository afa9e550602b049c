"""``model.fp32.onnx`` -> ``model.onnx``: attention in the form that was tuned, then strongly typed."""

from __future__ import annotations

from pathlib import Path

from exporter.build import Build
from exporter.choice import choose
from exporter.stages import rewrite
from exporter.stages.reference import versions
from exporter.store import Entry

NAME = "type"
NEEDS = ("rewrite",)
CODE = ("exporter.casting", "exporter.keeping", "exporter.shapes", "exporter.onnxio")
FILE = "model.onnx"


def parts(build: Build) -> dict:
    from exporter.registry import source

    name = build.request.precision.name
    return {
        "precision": name,
        "io": build.request.io,
        "code": source(f"exporter.precisions.{name}"),
        "keep_fp32": sorted(build.request.precision.keep_fp32),
        "form": rewrite.steps(choose(build.request).steps()),
        "static_batch": build.request.batch.opt if build.request.batch.static else None,
        "versions": versions("onnx", "ml-dtypes", "numpy"),
    }


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    import onnx

    from exporter import casting, onnxio, rewriting

    chosen = choose(build.request)
    canonical = build.model("rewrite", "model.fp32.onnx")
    formed, reports = rewriting.rewrite(canonical, build.recipe, steps=chosen.steps(), progress=build.note)
    model = onnx.ModelProto()
    model.CopyFrom(formed)
    typed = casting.cast(model, build.request.precision, build.request.io)
    batch = build.request.batch
    if batch.static:
        onnxio.fix_batch(typed.model, batch.opt)
    build.note("checking and writing model.onnx")
    onnxio.check(typed.model)
    onnxio.save(typed.model, folder / FILE)
    attention = [n.name for n in typed.model.graph.node if n.op_type in ("Softmax", "Attention")]
    return {
        "form": {"name": chosen.form, "why": chosen.why, "compiler": chosen.compiler},
        "rewrites": [r.as_dict() for r in reports],
        "nodes": len(typed.model.graph.node),
        "opset": onnxio.opset(typed.model),
        "casts": typed.casts,
        "kept_fp32": typed.kept,
        "attention": attention,
        "inputs": [onnxio.describe(v) for v in typed.model.graph.input],
        "outputs": [onnxio.describe(v) for v in typed.model.graph.output],
    }, {FILE: typed.model}


def summary(entry: Entry) -> str:
    meta = entry.meta
    kept = f", {len(meta['kept_fp32'])} nodes kept in FP32" if meta["kept_fp32"] else ""
    return f"{meta['form']['name']}, {meta['nodes']} nodes, {meta['casts']} casts{kept}, {entry.bytes / 1e6:.0f} MB"
