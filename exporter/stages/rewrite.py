"""``raw.onnx`` -> ``model.fp32.onnx``: the rewrites, each one counted, checked and compared; once per model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from exporter.build import Build
from exporter.stages.reference import versions
from exporter.store import Entry
from exporter.types import RewriteStep

NAME = "rewrite"
NEEDS = ("trace",)
REWRITING = (
    "exporter.rewriting",
    "exporter.detached",
    "exporter.surgery",
    "exporter.shapes",
    "exporter.moves",
    "exporter.orders",
    "exporter.permutations",
    "exporter.rowwise",
    "exporter.streams",
    "exporter.datafree",
    "exporter.scores",
    "exporter.attention",
    "exporter.heads",
    "exporter.linear",
    "exporter.projections",
    "exporter.forms",
    "exporter.emit",
    "exporter.spreads",
    "exporter.rewrites.remove_expansions",
    "exporter.backends.onnxruntime",
)
"""Modules that any rewrite may stand on."""

CODE = ("exporter.onnxio", *REWRITING)
FILE = "model.fp32.onnx"


def parts(build: Build) -> dict:
    return {
        "rewrites": steps(s for s in build.recipe.rewrites if s.name not in build.request.without),
        "native_image": build.request.native_image,
        "versions": versions("onnx", "onnx-graphsurgeon", "onnxruntime", "numpy"),
    }


def steps(of: Iterable[RewriteStep]) -> list:
    """What decides the result of rewrites: their names, counts, options and source texts."""
    from exporter.registry import source

    return [(s.name, s.matches, dict(s.options), source(f"exporter.rewrites.{s.name}")) for s in of]


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    from exporter import onnxio, rewriting

    answers: list = []
    model, reports = rewriting.rewrite(
        build.model("trace", "raw.onnx"),
        build.recipe,
        native_image=build.request.native_image,
        without=build.request.without,
        progress=build.note,
        answers=answers,
    )
    build.note(f"writing {FILE}")
    onnxio.save(model, folder / FILE)
    return {"nodes": len(model.graph.node), "rewrites": [r.as_dict() for r in reports]}, {
        FILE: model,
        "answers": answers,
    }


def summary(entry: Entry) -> str:
    reports = entry.meta["rewrites"]
    before = reports[0]["nodes_before"] if reports else entry.meta["nodes"]
    matches = sum(r["matches"] for r in reports)
    return f"{len(reports)} rewrites, {matches} matches, {before} -> {entry.meta['nodes']} nodes"
