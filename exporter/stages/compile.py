"""``model.onnx`` -> ``model.engine`` and ``kernels.json``: the real compiler, and what it emitted.

A log of an engine with a free batch shows -1 for sizes, so bytes and FLOPs are read from a second build of the same
graph with the profile's optimum as its batch.
"""

from __future__ import annotations

from pathlib import Path

from exporter import SCHEMA
from exporter.backends import tensorrt
from exporter.build import Build
from exporter.memory import resident_bytes
from exporter.store import Entry, write_json

NAME = "compile"
NEEDS = ("type",)
CODE = (
    "exporter.backends.tensorrt",
    "exporter.kernels",
    "exporter.layers",
    "exporter.naming",
    "exporter.flops",
    "exporter.shapes",
    "exporter.roofline",
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
    from exporter import flops, kernels

    batch = build.request.batch
    real = _job(build, build.file("type", "model.onnx"), folder, "model", (batch.min, batch.opt, batch.max))
    build.note(f"{build.request.backend} for {', '.join(build.request.targets)}")
    jobs = {"engine": real} if batch.static else {"engine": real, "static_twin": _static_twin(build, folder)}
    built = dict(zip(jobs, tensorrt.build(list(jobs.values()), build.recipe.name), strict=True))
    lists = [_layers(Path(job.log)) for job in jobs.values()]
    for path in [p for p in folder.iterdir() if p.name != FILE]:
        path.unlink()
    counts = flops.per_node(build.model("type", "model.onnx"), batch.opt)
    engine, sized = (kernels.with_flops(found, counts) for found in (lists[0], lists[-1]))
    report = describe(build, engine, sized)
    write_json(
        folder / "kernels.json",
        report | {"kernels": [k.as_dict() for k in engine], "at_opt": [k.as_dict() for k in sized]},
    )
    return {
        "backend": build.request.backend,
        "backend_version": tensorrt.version(build.request.backend),
        "targets": list(build.request.targets),
        "builds": {name: b.seconds for name, b in built.items()},
        "peak_bytes": sum(b.peak_bytes for b in built.values()),
        **report,
    }, {"resident": resident_bytes()}


def _layers(log: Path) -> list:
    """The kernels of a build: from the engine inspector where the backend has written its answer, else from the log."""
    from exporter import layers

    inspected = log.with_suffix(tensorrt.INSPECTED)
    return layers.from_inspector(inspected.read_text()) if inspected.exists() else layers.parse(log.read_text())


def _job(build: Build, onnx: Path, folder: Path, name: str, batch: tuple[int, int, int]) -> tensorrt.Job:
    spec = build.recipe.inputs[0]
    return tensorrt.Job(
        onnx=str(onnx.resolve()),
        engine=str(folder / f"{name}.engine"),
        log=str(folder / f"{name}.log"),
        backend=build.request.backend,
        targets=build.request.targets,
        batch=batch,
        input_name=spec.name,
        shape=spec.shape,
        tf32=build.request.precision.tf32,
    )


def _static_twin(build: Build, folder: Path) -> tensorrt.Job:
    import onnx

    from exporter import onnxio

    opt = build.request.batch.opt
    model = onnx.ModelProto()
    model.CopyFrom(build.model("type", "model.onnx"))
    onnxio.fix_batch(model, opt)
    onnxio.save(model, folder / "twin.onnx")
    return _job(build, folder / "twin.onnx", folder, "twin", (opt, opt, opt))


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
