"""The bundle: what a build leaves for others, and ``manifest.json``, the engine's passport.

``OUT/<model>/<precision>/`` appears in one step. A build that failed a check goes to ``<precision>.failed`` beside
it, so that the last good bundle stays where a fleet looks for it.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter import SCHEMA, __version__, checks, labels, ladder, sbom
from exporter.build import Build
from exporter.choice import choose
from exporter.errors import CheckFailed
from exporter.files import place, publish_folder, sha256_file, sha256_text, unwritable, write_atomically, write_json
from exporter.memory import peak_bytes
from exporter.registry import recipe_source
from exporter.stages.reference import versions
from exporter.store import Entry, Store

SHARED = ("trace", "rewrite")
"""The stages whose files lie beside the precisions of a model."""

OF_SOME = {"calibrate": "calibration.json", "place": "placement.json", "islands": "islands.json"}
"""What some bundles have besides: clipping ranges and where they came from; an 8-bit precision's candidates and their
scores; the search for what a budget keeps in FP32."""

OF_THE_RUN = frozenset({"seconds", "reused", "peak_rss_bytes", "command"})
"""Fields of the manifest that tell of the run that made the bundle; a later run may differ in them."""

LATER = frozenset({"cross_runtime"})
"""Fields that are measured on a published bundle and put into its manifest (``make crosscheck``)."""

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "onnx",
    "onnxscript",
    "onnx-ir",
    "onnxruntime",
    "onnx-graphsurgeon",
    "polygraphy",
    "numpy",
)


@dataclass(frozen=True)
class Bundle:
    """A published bundle; ``failures`` are the checks that it failed, ``built`` the stages that were not reused."""

    folder: Path
    manifest: dict[str, Any]
    failures: tuple[CheckFailed, ...]
    built: tuple[str, ...]
    reused: bool


def publish(build: Build) -> Bundle:
    """Put the build's files and its manifest into place; an unchanged bundle is left alone."""
    failures = checks.failed(build)
    home = build.request.out / build.recipe.folder
    name = build.request.precision.name
    folder = home / (f"{name}.failed" if failures else name)
    record = manifest(build, failures)
    built = tuple(stage for stage, entry in build.entries.items() if not entry.reused)
    # the lock lies in OUT, whatever cache the build uses: it is OUT that two builds must not write at once
    with Store(build.request.out / ".cache").lock(f"{build.recipe.folder}.bundle"):
        sweep(home)
        current = _current(folder, record, build)
        if current is not None:
            return Bundle(folder, current, failures, built, reused=True)
        try:
            home.mkdir(parents=True, exist_ok=True)
            _share(build, home)
            temporary = home / f".{name}.{uuid.uuid4().hex[:8]}.tmp"
            temporary.mkdir()
            try:
                for file, stage in _files(build).items():
                    place(build.file(stage, file), temporary / file)
                write_json(temporary / "parity.json", ladder.ladder(build))
                write_json(temporary / "manifest.json", record)
                write_atomically(temporary / sbom.FILE, sbom.text(record))
                publish_folder(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        except OSError as error:
            raise unwritable(home, error) from None
        if not failures:
            shutil.rmtree(home / f"{name}.failed", ignore_errors=True)
    return Bundle(folder, record, failures, built, reused=False)


def sweep(home: Path) -> None:
    """Under the bundle's lock, remove what killed builds left; a bundle that one of them had put aside comes back."""
    for left in sorted(home.glob(".*.tmp.old")):
        final = home / left.name[1:].rsplit(".", 3)[0]
        if final.exists():
            shutil.rmtree(left, ignore_errors=True)
        else:
            os.rename(left, final)
    for left in home.glob(".*.tmp"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _files(build: Build) -> dict[str, str]:
    """The bundle's files and the stage of each; a model over the single-file limit has its weights beside it."""
    files = {name: stage for stage in ("type", "compile") for name in build.entries[stage].files}
    return files | {name: stage for stage, name in OF_SOME.items() if stage in build.entries}


def _current(folder: Path, record: dict, build: Build) -> dict | None:
    """The manifest that is there, if it says the same of the same files."""
    try:
        there = json.loads((folder / "manifest.json").read_text())
        if {k: v for k, v in there.items() if k not in OF_THE_RUN | LATER} != _as_json(record):
            return None
        files = all(_same(folder / name, build.entries[stage], name) for name, stage in _files(build).items())
        proof = json.loads((folder / "parity.json").read_text()) == _as_json(ladder.ladder(build))
        return there if files and proof else None
    except (OSError, ValueError, TypeError):
        return None


def _as_json(record: dict) -> dict:
    return json.loads(json.dumps({k: v for k, v in record.items() if k not in OF_THE_RUN}))


def _same(path: Path, entry: Entry, name: str) -> bool:
    """Whether ``path`` is the entry's file, or a copy with the same content."""
    return os.path.samefile(path, entry.path(name)) or sha256_file(path) == entry.files[name]["sha256"]


def _share(build: Build, home: Path) -> None:
    """Put the files of the model's own stages, and nothing else, beside its precisions."""
    for stage in SHARED:
        for name in build.entries[stage].files:
            target = home / name
            if target.exists() and _same(target, build.entries[stage], name):
                continue
            temporary = home / f".{name}.{uuid.uuid4().hex[:8]}.tmp"
            place(build.file(stage, name), temporary)
            os.replace(temporary, target)


def manifest(build: Build, failures: tuple[CheckFailed, ...]) -> dict[str, Any]:
    """Everything that a user of the engine may ask about it."""
    request, recipe, entries = build.request, build.recipe, build.entries
    engine, typed, chosen = entries["compile"], entries["type"], choose(request)
    how = recipe.preprocessing
    rewrites = [
        {k: r[k] for k in ("name", "matches", "nodes_before", "nodes_after", "max_abs_error")} for r in reports(entries)
    ]
    onnx = typed.files["model.onnx"]
    return {
        "schema": SCHEMA,
        "status": "failed" if failures else "passed",
        "failures": [f.as_dict() for f in failures],
        "model": recipe.name,
        "recipe_sha256": sha256_text(recipe_source(recipe)),
        "paper": recipe.paper,
        "precision": request.precision.name,
        "weights": entries["weights"].meta | {"resampled": entries["reference"].meta["resampled"]},
        "labels": labels.said(recipe, entries["weights"].meta),
        "inputs": typed.meta["inputs"],
        "outputs": [o | {"meaning": s.meaning} for o, s in zip(typed.meta["outputs"], recipe.outputs, strict=True)],
        "preprocessing": {
            "size": list(how.size),
            "interpolation": how.interpolation,
            "mean": list(how.mean),
            "std": list(how.std),
            "crop_pct": how.crop_pct,
            "mode": how.mode,
            "layout": how.layout,
            "colour": "RGB",
        }
        | ({"frames": how.frames} if how.frames else {}),
        "batch": {"min": request.batch.min, "opt": request.batch.opt, "max": request.batch.max},
        "opset": typed.meta["opset"],
        "rewrites": rewrites,
        "refused": _refused(entries),
        "attention_form": {"name": chosen.form, "why": chosen.why, "compiler": chosen.compiler},
        "without": list(request.without),
        "kept_fp32": typed.meta["kept_fp32"],
        "near_the_limit": typed.meta["near_the_limit"],
        "onnx": {
            "sha256": onnx["sha256"],
            "bytes": onnx["bytes"],
            "nodes": typed.meta["nodes"],
            "external_data": {n: f["sha256"] for n, f in typed.files.items() if n.startswith("model.onnx.")},
        },
        "engine": {
            "sha256": engine.files["model.engine"]["sha256"],
            "bytes": engine.files["model.engine"]["bytes"],
            "backend": engine.meta["backend"],
            "backend_version": engine.meta["backend_version"],
            "targets": engine.meta["targets"],
        },
        "kernels": engine.meta["totals"],
        "unfused_attention": engine.meta["unfused_attention"],
        "unfused_allowed": request.allow_unfused and checks.fusion_failure(build) is not None,
        "parity": ladder.rungs(build),
        "noise_floor": ladder.noise_floor(build),
        "islands": _islands(entries),
        "quantized": typed.meta["quantized"],
        "left_in_16_bit": typed.meta["left"] if request.precision.quantized else {},
        "calibration": _calibration(entries),
        "against_base": dict(entries["place"].meta) if "place" in entries else None,
        "versions": {
            "vit-exporter": __version__,
            "python": platform.python_version(),
            **versions(*PACKAGES),
            request.backend: engine.meta["backend_version"],
        },
        "stages": {name: entry.key for name, entry in entries.items()},
        "seconds": {name: entry.seconds for name, entry in entries.items()},
        "reused": [name for name, entry in entries.items() if entry.reused],
        "peak_rss_bytes": peak_rss(build),
        "command": request.command,
    }


def _islands(entries: dict[str, Entry]) -> dict | None:
    """Which blocks a budget keeps in FP32, at what cost, and the blocks by their errors; None without a budget."""
    if "islands" not in entries:
        return None
    return {k: v for k, v in entries["islands"].meta.items() if k != "search"}


def _calibration(entries: dict[str, Entry]) -> dict | None:
    """On what images, and how, the ranges of an 8-bit precision were found; None for the others."""
    if "calibrate" not in entries:
        return None
    return {k: entries["calibrate"].meta[k] for k in ("source", "images", "sha256", "method")} | {
        "skipped": len(entries["calibrate"].meta["skipped"])
    }


def reports(entries: dict[str, Entry]) -> list[dict]:
    """What every rewrite reported, in order."""
    return [r for stage in ("rewrite", "form", "type") for r in entries[stage].meta["rewrites"]]


def _refused(entries: dict[str, Entry]) -> dict[str, str]:
    """What looked like a rewrite's pattern and was left as it is, by node, and why."""
    return {node: f"{r['name']}: {why}" for r in reports(entries) for node, why in r["refused"].items()}


def peak_rss(build: Build) -> int:
    """Bytes: this process's peak, or what it had and the compiler's processes used together where that is more.

    A stage that was reused used nothing.
    """
    compiler = build.entries["compile"]
    return max(peak_bytes(), compiler.memory.get("resident", 0) + compiler.meta["peak_bytes"] * (not compiler.reused))
