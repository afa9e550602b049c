"""The bundle that is measured, and where: on the GPU that its engine is for, or on the CPU, and why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from exporter import registry
from exporter.backends import tensorrt
from exporter.errors import UsageError
from exporter.files import as_knob, sha256_file
from exporter.types import Recipe

CPU = "onnxruntime"
BACKENDS = (*tensorrt.MODULES, CPU)
SHARED = ("raw.onnx", "model.fp32.onnx")
"""Graphs beside the precisions that contenders start from."""


@dataclass(frozen=True)
class Place:
    """A bundle as it lies on disk, and where it is run: ``backend``, ``device``, and why not on a GPU."""

    folder: Path
    manifest: dict
    recipe: Recipe
    backend: str
    device: str
    why: str


def find(model: str, precision: str, out: Path, backend: str | None = None) -> Place:
    """The bundle and where it runs; :class:`UsageError` says what to build where there is none."""
    recipe, kind = registry.recipe(model), registry.precision(precision)
    folder = out / recipe.folder / kind.name
    build = f"make engine MODEL={recipe.name} PRECISION={kind.name}{as_knob(out)}"
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        size, engine = tuple(manifest["preprocessing"]["size"]), manifest["engine"]
        found = sha256_file(folder / "model.onnx"), sha256_file(folder / "model.engine")
        wanted = manifest["onnx"]["sha256"], engine["sha256"]
    except FileNotFoundError as error:
        failed = folder.with_name(f"{folder.name}.failed").is_dir()
        raise UsageError(
            "there is no engine to measure",
            model=recipe.name,
            found=f"{error.filename} is missing" + ("; the last build failed a check" if failed else ""),
            expected=f"a bundle in {folder}",
            next=build,
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            "the bundle cannot be read", model=recipe.name, found=f"{type(error).__name__}: {error}",
            expected=f"what make engine wrote in {folder}", next=build,
        ) from None  # fmt: skip
    if found != wanted:
        raise UsageError(
            "the bundle is not what its manifest says", model=recipe.name,
            found="other hashes of model.onnx and model.engine", expected=f"the files that {folder} was made with",
            next=build,
        )  # fmt: skip
    for name in SHARED:
        if not (folder.parent / name).is_file():
            raise UsageError(
                "the bundle's shared graphs are not there", model=recipe.name, found=f"no {name}",
                expected=str(folder.parent / name), next=build,
            )  # fmt: skip
    runs_with, device, why = _where(backend, engine, recipe.name)
    return Place(folder, manifest, recipe.at(size), runs_with, device, why)


def _where(backend: str | None, engine: dict, model: str) -> tuple[str, str, str]:
    """(backend, device, why not on a GPU): the engine where its GPU is, else the CPU, unless one was asked for."""
    if backend is not None and backend not in BACKENDS:
        raise UsageError(f"there is no backend {backend!r}", model=model, found=backend,
                         expected=", ".join(BACKENDS), next=f"BACKEND={CPU}")  # fmt: skip
    if backend == CPU:
        return CPU, "cpu", "asked for"
    device, why = tensorrt.cuda_device()
    if device is not None and device not in engine["targets"]:
        device, why = None, f"the engine is for {', '.join(engine['targets'])}, the GPU here is {device}"
    if backend is not None and backend != engine["backend"]:
        device, why = None, f"the engine was built with {engine['backend']}"
    if device is not None:
        return engine["backend"], device, ""
    if backend is not None:
        raise UsageError(
            f"{backend} cannot run the engine here", model=model, found=why, expected="the engine's GPU and backend",
            next=f"BACKEND={CPU} runs its graph on the CPU",
        )  # fmt: skip
    return CPU, "cpu", why
