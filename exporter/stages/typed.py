"""``model.fp32.onnx`` -> ``model.onnx``: attention in the form that was tuned, then strongly typed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from exporter.build import Build
from exporter.choice import Choice, choose
from exporter.stages import rewrite
from exporter.stages.reference import versions
from exporter.store import Entry, write_json
from exporter.types import Request

NAME = "type"
NEEDS = ("rewrite",)
CODE = (
    "exporter.casting",
    "exporter.keeping",
    "exporter.probe",
    "exporter.onnxio",
    "exporter.choice",
    *rewrite.REWRITING,
)
FILE = "model.onnx"
RANGES = "ranges.json"
WARNED = 5
"""Tensors near the type's limit that are warned of by name; ``ranges.json`` has them all."""


def parts(build: Build) -> dict:
    from exporter import samples
    from exporter.registry import source

    name, chosen = build.request.precision.name, choose(build.request)
    if stale := chosen.stale(build.request.backend):
        build.store.warn(stale)
    return {
        "precision": name,
        "io": build.request.io,
        "code": source(f"exporter.precisions.{name}"),
        "keep_fp32": sorted(build.request.precision.keep_fp32),
        "images": samples.fingerprint(build.images) if build.request.precision.element_type == "float16" else None,
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
    pixels=None,
):
    """(typed graph, reports of the rewrites, observed ranges): attention in the chosen form, then the precision, then
    the batch.

    ``answers`` is what the canonical graph answered when it was checked, where this process did that. ``pixels`` are
    images (S, 3, H, W) on which the ranges are observed; without them, and in types of FP32's range, nothing is.
    """
    import onnx

    from exporter import casting, onnxio, probe, rewriting

    formed, reports = rewriting.rewrite(
        canonical, request.recipe, steps=chosen.steps(), progress=note, answers=list(answers or ())
    )
    model = onnx.ModelProto()
    model.CopyFrom(formed)
    observed, beyond = {}, {}
    if pixels is not None and request.precision.element_type == "float16":
        note("the range of every tensor on the images")
        observed = probe.observe(model, pixels)
        beyond = probe.beyond(observed, "float16")
    typed = casting.cast(model, request.precision, request.io, beyond)
    if request.batch.static:
        onnxio.fix_batch(typed.model, request.batch.opt)
    note("checking model.onnx")
    onnxio.check(typed.model)
    return typed, reports, observed


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    from exporter import onnxio, probe
    from exporter.emitted import softmaxes

    chosen = choose(build.request)
    answers = build.entries["rewrite"].memory.get("answers")
    narrow = build.request.precision.element_type == "float16"
    typed, reports, observed = make(
        build.model("rewrite", "model.fp32.onnx"),
        build.request,
        chosen,
        build.note,
        answers,
        build.samples.pixels if narrow else None,
    )
    close = probe.beyond(observed, "float16", probe.NARROW)
    for name in sorted(close, key=lambda n: -observed[n].amax)[:WARNED]:
        build.store.warn(f"{name}: {close[name]}; images with a wider range would overflow")
    build.note("writing model.onnx")
    onnxio.save(typed.model, folder / FILE)
    if observed:
        write_json(folder / RANGES, {"samples": list(build.samples.names), "tensors": _rows(observed)})
    return {
        "form": {"name": chosen.form, "why": chosen.why, "compiler": chosen.compiler},
        "rewrites": [r.as_dict() for r in reports],
        "nodes": len(typed.model.graph.node),
        "opset": onnxio.opset(typed.model),
        "casts": typed.casts,
        "kept_fp32": typed.kept,
        "near_the_limit": close,
        "attention": softmaxes(typed.model),
        "inputs": [onnxio.describe(v) for v in typed.model.graph.input],
        "outputs": [onnxio.describe(v) for v in typed.model.graph.output],
    }, {FILE: typed.model}


def _rows(observed: dict) -> dict:
    """Every tensor's range, the widest first."""
    return {name: o.as_dict() for name, o in sorted(observed.items(), key=lambda item: -item[1].amax)}


def summary(entry: Entry) -> str:
    meta = entry.meta
    kept = f", {len(meta['kept_fp32'])} nodes kept in FP32" if meta["kept_fp32"] else ""
    return f"{meta['form']['name']}, {meta['nodes']} nodes, {meta['casts']} casts{kept}, {entry.bytes / 1e6:.0f} MB"
