"""``model.onnx`` -> ``model.engine`` and ``kernels.json``: the real compiler, and what it emitted."""

from __future__ import annotations

from pathlib import Path

from exporter import SCHEMA
from exporter.backends import tensorrt
from exporter.build import Build
from exporter.files import write_json
from exporter.memory import watched
from exporter.store import Entry

NAME = "compile"
NEEDS = ("type",)
CODE = (
    "exporter.emitted",
    "exporter.backends.tensorrt",
    "exporter.kernels",
    "exporter.layers",
    "exporter.naming",
    "exporter.flops",
    "exporter.shapes",
    "exporter.roofline",
    "exporter.chips",
    "exporter.onnxio",
)
FILE = "model.engine"


def parts(build: Build) -> dict:
    request = build.request
    device = tensorrt.cuda_device()[0] if request.backend == "tensorrt" else None
    return {
        "backend": request.backend,
        "version": tensorrt.version(request.backend),
        "targets": request.targets,
        "batch": str(request.batch),
        "tf32": request.precision.tf32,
        "device": device,
    }


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    from exporter import emitted

    request = build.request
    build.note(f"{request.backend} for {', '.join(request.targets)}")
    with watched() as resident:  # proofs run beside the compiler's process
        found = emitted.emit(build.model("type", "model.onnx"), build.file("type", "model.onnx"), request, folder)
    report = describe(build, found.engine, found.sized)
    write_json(
        folder / "kernels.json",
        report | {"kernels": [k.as_dict() for k in found.engine], "at_opt": [k.as_dict() for k in found.sized]},
    )
    return {
        "backend": request.backend,
        "backend_version": tensorrt.version(request.backend),
        "targets": list(request.targets),
        "builds": {name: b.seconds for name, b in found.builds.items()},
        "peak_bytes": sum(b.peak_bytes for b in found.builds.values()),
        **report,
    }, {"resident": resident()}


def describe(build: Build, engine: list, sized: list) -> dict:
    """Totals by target, and which attention blocks lie in one kernel."""
    from exporter import kernels, roofline

    attention = build.entries["type"].meta["attention"]
    fused, unfused = kernels.fused_attention(engine, attention)
    totals = kernels.totals(engine, sized, attention).as_dict()
    tf32 = build.request.precision.tf32
    by_target = {}
    for target in build.request.targets:
        chip = roofline.CHIPS.get(target)
        bound = round(roofline.microseconds(sized, chip, tf32), 1) if chip else None
        by_target[target] = {
            **totals,
            "batch": build.request.batch.opt,
            "roofline_us": bound,
            "chip": chip.name if chip else f"no figures for {target}",
        }
    return {
        "schema": SCHEMA,
        "model": build.recipe.name,
        "precision": build.request.precision.name,
        "batch_at_opt": build.request.batch.opt,
        "totals": by_target,
        "fused_attention": fused,
        "unfused_attention": unfused,
    }


def summary(entry: Entry) -> str:
    first = next(iter(entry.meta["totals"].values()))
    attention = len(entry.meta["fused_attention"]) + len(entry.meta["unfused_attention"])
    fused = f", {first['fused_attention']} of {attention} attentions fused" if attention else ""
    megabytes = entry.files[FILE]["bytes"] / 1e6
    return (
        f"{','.join(entry.meta['targets'])}: {first['count']} kernels{fused}, "
        f"{first['bytes_moved'] / 1e6:.0f} MB moved at batch {first['batch']}, engine {megabytes:.0f} MB"
    )
