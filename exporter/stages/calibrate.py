"""``formed.onnx`` and images -> ``calibration.json`` and ``channels.npz``: what an 8-bit precision is quantised by."""

from __future__ import annotations

from pathlib import Path

from exporter.build import Build
from exporter.errors import UsageError
from exporter.files import sha256_file, sha256_text, write_json
from exporter.stages import form, rewrite
from exporter.stages.reference import versions
from exporter.store import Entry
from exporter.types import Request, RewriteStep

NAME = "calibrate"
NEEDS = ("form",)
CODE = (
    "exporter.observing",
    "exporter.placement",
    "exporter.quantizing",
    "exporter.rewrites.balance_channels",
    "calibration.observers",
    "calibration.sources",
    "calibration.decoding",
    "calibration.images",
    *rewrite.REWRITING,
)
RANGES = "calibration.json"
CHANNELS = "channels.npz"
NAMED = 5
"""Skipped files that are warned of by name; ``calibration.json`` has them all."""


def wanted(request: Request) -> bool:
    return request.precision.quantized is not None


def parts(build: Build) -> dict:
    found = source(build)
    return {
        "images": files(build),
        "count": found.count,
        "preprocessing": vars(build.recipe.preprocessing),
        "method": build.request.observer,
        "quantized": build.request.precision.quantized,
        "versions": versions("onnx", "onnxruntime", "numpy", "pillow", "ml-dtypes"),
    }


def files(build: Build) -> list[str] | str:
    """What tells one set of calibration images from another: hashes of files, or the source of what makes them."""
    from exporter.registry import recipe_source

    return [sha256_file(path) for path in source(build).files] or recipe_source(build.recipe)


def source(build: Build):
    """Where the calibration images come from; cheap, nothing is decoded."""
    from calibration import sources
    from exporter import samples

    request = build.request
    return sources.source(request.calib, build.recipe, request.calib_images, build.images or samples.shipped())


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    import numpy as np

    from calibration import observers
    from exporter import observing, placement, quantizing

    found, skipped = source(build), {}
    if found.few:
        build.store.warn(found.few)

    def rows():
        return found.rows(lambda name, why: skipped.setdefault(name, why))

    model = build.model("form", form.FILE)
    at = placement.find(model)
    if not quantizing.tensors(at):
        raise nothing(build.request)
    build.note(f"the ranges of channels, {found.name}")
    channels = observing.channels(
        model,
        quantizing.tensors(at),
        rows(),
        lambda n: build.note(f"channels: {n} of {found.count} images"),
        quantizing.rows(at),
    )
    dead = {name for name, values in channels.items() if not values.any()}
    channels = {name: values for name, values in channels.items() if name not in dead}
    for name in sorted(dead)[:NAMED]:
        build.store.warn(f"{name} is all zero on the calibration images; what reads or makes it stays in 16 bits")
    if not channels:
        raise nothing(build.request, "every activation of its products is zero on the calibration images")
    balanced, _ = balance(model, build, channels)
    build.note("histograms")
    names = [name for name in quantizing.tensors(placement.find(balanced)) if name not in dead]
    seen = observing.histograms(
        balanced,
        names,
        rows(),
        lambda n: build.note(f"histograms: {n} of {found.count} images"),
    )
    for name in list(skipped)[:NAMED]:
        build.store.warn(f"{name} was skipped: {skipped[name]}")
    if len(skipped) > NAMED:
        build.store.warn(f"{len(skipped)} files of {found.name} were skipped; {RANGES} names them")
    rounded = {"int8": observers.int8, "float8_e4m3fn": observers.float8}[build.request.precision.quantized]
    ranges = {
        name: {"amax": observers.amax(h, build.request.observer, rounded), "largest": h.largest}
        for name, h in seen.items()
    }
    images = found.count - len(skipped)
    facts = {
        "source": found.name,
        "images": images,
        "skipped": skipped,
        "sha256": sha256_text(*map(sha256_file, found.files)) if found.files else None,
        "method": build.request.observer,
    }
    write_json(folder / RANGES, {"schema": 1, **facts, "tensors": ranges})
    np.savez(folder / CHANNELS, **{str(i): values for i, values in enumerate(channels.values())})
    return facts | {"channels": list(channels)}, {
        "channels": channels,
        "amax": {n: r["amax"] for n, r in ranges.items()},
    }


CONVOLUTIONS = (
    "no matrix product but the classifier's; convolutions stay in 16 bits, since the compiler's 8-bit ones write FP32"
)


def nothing(request: Request, why: str = CONVOLUTIONS) -> UsageError:
    """The refusal of a model in which there is nothing for 8 bits."""
    name, base = request.recipe.name, request.precision.base
    return UsageError(
        f"{name}: calibrate: nothing to quantise for PRECISION={request.precision.name}",
        found=why,
        expected="linear layers or attention",
        next=f"make engine MODEL={name} PRECISION={base}",
    )


def balance(model, build: Build, channels: dict):
    """(the graph with its channels balanced, the report): checked and compared as every rewrite is."""
    from exporter import rewriting

    step = RewriteStep("balance_channels", options={"channels": channels})
    answers = list(build.entries["form"].memory.get("answers", ()))
    balanced, reports = rewriting.rewrite(model, build.recipe, steps=[step], progress=build.note, answers=answers)
    return balanced, reports


def found(build: Build) -> tuple[dict, dict[str, float]]:
    """(the channels' ranges, the clipping range of every tensor) of the finished stage."""
    import json

    import numpy as np

    entry = build.entries[NAME]
    if "amax" not in entry.memory:
        with np.load(entry.path(CHANNELS)) as stored:
            entry.memory["channels"] = {n: stored[str(i)] for i, n in enumerate(entry.meta["channels"])}
        tensors = json.loads(entry.path(RANGES).read_text())["tensors"]
        entry.memory["amax"] = {name: row["amax"] for name, row in tensors.items()}
    return entry.memory["channels"], entry.memory["amax"]


def summary(entry: Entry) -> str:
    meta = entry.meta
    skipped = f", {len(meta['skipped'])} skipped" if meta["skipped"] else ""
    return f"{meta['images']} images of {meta['source']}{skipped}, {meta['method']}"
