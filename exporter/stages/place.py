"""Which products an 8-bit engine computes in 8 bits: candidates through the compiler, against its 16-bit base.

A product of 8 bits can cost more than it saves: TensorRT-RTX 1.7 does not fuse INT8 attention with a bias between BF16
tensors, and that of DETR in part. So each candidate is typed, compiled with the profile's optimum as its batch, and
scored by what the compiler emitted (:mod:`exporter.score`); the base is in the table, too, and says what 8 bits gain.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from exporter.backends import tensorrt
from exporter.build import Build
from exporter.stages import calibrate, form, typed
from exporter.store import Entry, write_json
from exporter.types import Batch, Request

NAME = "place"
NEEDS = ("form", "calibrate")
CODE = (
    "exporter.score",
    "exporter.roofline",
    "exporter.kernels",
    "exporter.layers",
    "exporter.emitted",
    "exporter.stages.typed",
    *typed.CODE,
)
FILE = "placement.json"
EVERYTHING, PRODUCTS = "products and attention", "products"
CANDIDATES = {EVERYTHING: True, PRODUCTS: False}
"""Whether attention's own products are quantised, by name."""

wanted = calibrate.wanted


def parts(build: Build) -> dict:
    request = build.request
    return {
        "backend": request.backend,
        "version": tensorrt.version(request.backend),
        "target": request.targets[0],
        "batch": request.batch.opt,
        "precision": request.precision.name,
    }


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    from exporter import placement, registry

    request = build.request
    fixed = replace(request, batch=Batch(*[request.batch.opt] * 3), targets=request.targets[:1])
    base = replace(fixed, precision=registry.precision(request.precision.base))
    model = build.model("form", form.FILE)
    build.note(f"{base.precision.name}, to compare with")
    rows = {base.precision.name: _score(typed.finish(model, base), base)}
    channels, amax = calibrate.found(build)
    balanced, reports = calibrate.balance(model, build, channels)
    at = placement.find(balanced)
    for name in _candidates(at):
        build.note(f"{request.precision.name}: {name}")
        made = typed.finish(balanced, fixed, amax=amax, at=chosen(at, name))
        rows[name] = _score(made, fixed)
    scored = {name: rows[name] for name in _candidates(at) if "refused" not in rows[name]}
    winner = min(scored, key=lambda name: (rows[name]["due"] - rows[name]["fused"], rows[name]["total_us"]))
    gain = round(rows[base.precision.name]["total_us"] / rows[winner]["total_us"], 3)
    facts = {"base": base.precision.name, "winner": winner, "gain": gain, "batch": fixed.batch.opt, "rows": rows}
    write_json(folder / FILE, facts)
    return facts, {"balanced": (balanced, reports)}


def _candidates(at) -> list[str]:
    return list(CANDIDATES) if at.operands else [PRODUCTS]


def chosen(at, name: str):
    """The part of a placement that a candidate quantises."""
    return at if CANDIDATES[name] else replace(at, operands=())


def _score(made: typed.Made, request: Request) -> dict:
    """A candidate's score, or why the compiler refuses it."""
    from exporter import emitted, onnxio, score
    from exporter.errors import UsageError

    names = emitted.softmaxes(made.model)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "candidate.onnx"
        onnxio.save(made.model, path)
        try:
            found = emitted.emit(made.model, path, request, Path(scratch))
        except UsageError as error:
            return {"refused": str(error.found)}
    judged = (found.engine, found.sized, names, request.targets[0], request.precision.tf32, found.synchronisations)
    return score.of(*judged).as_dict()


def balanced(build: Build):
    """(the formed graph with its channels balanced, the report of that)."""
    memory = build.entries[NAME].memory
    if "balanced" not in memory:
        channels, _ = calibrate.found(build)
        memory["balanced"] = calibrate.balance(build.model("form", form.FILE), build, channels)
    return memory.pop("balanced")


def summary(entry: Entry) -> str:
    meta = entry.meta
    base, best = meta["rows"][meta["base"]], meta["rows"][meta["winner"]]
    return (
        f"{meta['winner']}: {meta['gain']:.2f}x {meta['base']} at batch {meta['batch']} by the compiler's kernels "
        f"({base['total_us']:.0f} -> {best['total_us']:.0f} us, {base['kernels']} -> {best['kernels']} kernels, "
        f"{base['bytes_moved'] / 1e6:.0f} -> {best['bytes_moved'] / 1e6:.0f} MB)"
    )
