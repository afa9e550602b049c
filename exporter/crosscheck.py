"""The same photographs through every runtime of a bundle, each against the torch module in FP32.

``onnxruntime``: what ``exporter.runtime`` runs on this machine. ``served``: the real tritonserver over gRPC.
``ensemble``: the files themselves, through the server's ``<model>_image``. ``cpp``: the pixels of ``deploy/cpp``
against Python's, and the runtime's answers for them; decoding a JPEG is Pillow's on both sides. What cannot run here is
``not run`` and why. The result is ``crosscheck.json`` in the bundle, and ``cross_runtime`` in its manifest.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from exporter import SCHEMA, metrics, passport, queries, registry, runtime, samples
from exporter.errors import UsageError
from exporter.files import sha256_file, unwritable, write_json
from exporter.jsonfile import words
from exporter.passport import Passport
from exporter.store import Store
from exporter.types import Tolerance

FILE, FIELD = "crosscheck.json", "cross_runtime"
SOURCES = Path(__file__).parents[1] / "deploy" / "cpp"

PIXELS = 1e-3
"""What C++ and Python pixels may differ by; a level of 255 is more."""

SAME = 1e-4
"""What one runtime in two processes may differ by, as a share of the largest value: batches differ."""

CORNER = 0.1
"""The same for the corners of boxes, in pixels of the picture."""

RUNGS = ("torch/typed", "raw/rewritten", "torch/raw")
"""Whose tolerance the answers are held to: the first that the build has."""

Row = dict[str, Any]


class NotRun(Exception):
    """Why a runtime could not run here."""


def check(folder: Path, out: Path, progress, *, weights: str | None = None, images: str | None = None) -> Row:
    """Measure the bundle in ``folder``, leave the record in it, and return it.

    Raises :class:`UsageError` for a bundle that is damaged, weights that are no longer there, or no photographs.
    """
    bundle = passport.read(folder)
    files = samples.paths(Path(os.path.expanduser(images)) if images else None)
    model = runtime.load(folder)
    ways: dict[str, Row] = {}
    with progress.stage("reference") as line:
        pixels = model.pixels(files)
        reference = _torch(bundle, pixels, weights)
        line.summary = f"torch, {len(files)} photographs"
    found: dict[str, np.ndarray] = {}
    with progress.stage("onnxruntime") as line:
        found.update(model.infer(pixels))
        ways["onnxruntime"] = _answers(bundle, reference, found) | {"runs": model.runs}
        line.summary = _said(ways["onnxruntime"])
    with tempfile.TemporaryDirectory() as scratch:
        for name, measure in (
            ("served", lambda at: _served(bundle, model, files, pixels, reference, found, at)),
            ("cpp", lambda at: _cpp(bundle, model, files, pixels, reference, at)),
        ):
            with progress.stage(name) as line:
                ways |= _run(name, measure, Path(scratch))
                line.summary = _said(ways[name])
    return _leave(bundle, out, {
        "schema": SCHEMA,
        "onnx": bundle.manifest["onnx"]["sha256"],
        "engine": bundle.manifest["engine"]["sha256"],
        "images": [{"name": path.name, "sha256": sha256_file(path)} for path in files],
        "ways": words(ways),
    })  # fmt: skip


def failures(record: Row) -> list[str]:
    """The ways that failed, in words."""
    return [f"{name}: {way['why']}" for name, way in record["ways"].items() if way["status"] == "failed"]


def _run(name: str, measure: Callable[[Path], dict[str, Row]], scratch: Path) -> dict[str, Row]:
    try:
        return measure(scratch)
    except (NotRun, UsageError) as error:
        why = error.what if isinstance(error, UsageError) else str(error)
        names = (name, "ensemble") if name == "served" else (name,)
        return {way: {"status": "not run", "why": why, "samples": 0} for way in names}


def _torch(bundle: Passport, pixels: np.ndarray, where: str | None) -> dict[str, np.ndarray]:
    """The module's answers in FP32; :class:`UsageError` where its weights are others or gone."""
    from exporter import parity
    from exporter import weights as made
    from exporter.reporting import inputs
    from exporter.reporting.published import Published
    from exporter.types import ModuleSpec

    manifest = bundle.manifest
    recipe = registry.recipe(manifest["model"]).at(tuple(manifest["preprocessing"]["size"]))
    published = Published(bundle.folder.name, bundle.folder, manifest)
    weights = inputs.weights(recipe, published, inputs.Words(weights=where))
    module = made.module(recipe, weights, ModuleSpec(recipe.preprocessing.size, manifest["weights"]["classes"]))
    runner = parity.TorchRunner(module, recipe)
    parts = parity.run(runner, [{recipe.inputs[0].name: pixels[i : i + 1]} for i in range(len(pixels))])
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _answers(bundle: Passport, reference: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> Row:
    """The worst output's errors against torch, held to the build's own tolerance."""
    rungs = (bundle.manifest["parity"].get(name, {}) for name in RUNGS)
    limit = Tolerance(**next(rung["tolerance"] for rung in rungs if rung.get("tolerance")))
    if registry.recipe(bundle.manifest["model"]).set_of_queries:
        found = queries.ordered(reference, found)
    errors = {name: metrics.errors(reference[name], found[name]) for name in reference}
    bad = [name for name, each in errors.items() if not metrics.within(each, limit)]
    task = "detection" if bundle.detects else "classification"
    return {
        "status": "failed" if bad else "passed",
        "why": f"{', '.join(bad)}: outside the tolerance of the build" if bad else "",
        "relative_max": max(each["relative_max"] for each in errors.values()),
        "cosine": min(each["cosine"] for each in errors.values()),
        **metrics.agreement(task, reference, found),
        "samples": len(next(iter(found.values()))),
        "tolerance": vars(limit),
    }


def _apart(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The largest difference as a share of the largest value."""
    return max(metrics.errors(one[name], other[name])["relative_max"] for name in one)


def _served(bundle, model, files, pixels, reference, here, scratch: Path) -> dict[str, Row]:
    """Pixels in batches to the model, files to the ensemble."""
    try:
        from exporter import client, serving, triton
    except ImportError as error:
        raise NotRun(f"tritonclient is not installed ({error.name})") from None
    spec, outputs = bundle.manifest["inputs"][0], [o["name"] for o in bundle.manifest["outputs"]]
    kind = ml_dtypes.bfloat16 if spec["dtype"] == "bfloat16" else np.dtype(spec["dtype"])
    made = triton.write(bundle.folder, scratch / "models", "python", allow_random=True)
    ports = serving.free_ports(2)
    with serving.started(scratch / "models", *ports, log=scratch / "server.log", patience=1):
        found: dict[str, list[np.ndarray]] = {name: [] for name in outputs}
        with client.Client(ports[1], made["model"], spec["name"], outputs[0]) as asking:
            for i in range(0, len(pixels), model.largest):
                answer = asking.outputs(pixels[i : i + model.largest].astype(kind))[1]
                for name in outputs:
                    found[name].append(answer[name].astype(np.float32))
        with client.Client(ports[1], made["image_model"], "image", "answer") as asking:
            said = [json.loads(asking.infer(np.frombuffer(f.read_bytes(), np.uint8)).tobytes()) for f in files]
    whole = {name: np.concatenate(parts) for name, parts in found.items()}
    way = _answers(bundle, reference, whole) | {"from_onnxruntime": _apart(here, whole)}
    if not way["from_onnxruntime"] <= SAME:
        way |= {"status": "failed", "why": f"not what the runtime answers here: {way['from_onnxruntime']:.1e}"}
    return {"served": way, "ensemble": _ensemble(said, model.predict(files))}


def _ensemble(said: list, expected: list) -> Row:
    """The server's answers for files beside the runtime's: the same classes in that order, shares and boxes alike."""
    both = list(zip(said, expected, strict=True))
    alike = sum([a["index"] for a in one] == [a["index"] for a in other] for one, other in both)
    pairs = [pair for one, other in both for pair in zip(one, other, strict=True)]
    share = max(abs(a["share"] - b["share"]) for a, b in pairs)
    corners = [abs(p - q) for a, b in pairs for p, q in zip(a.get("box", ()), b.get("box", ()), strict=True)]
    good = alike == len(expected) and share <= SAME and max(corners, default=0) <= CORNER
    why = f"{len(expected) - alike} photographs with other answers, shares {share:.1e} apart"
    way = {"status": "passed" if good else "failed", "why": "" if good else why, "alike": alike, "share": share}
    return way | ({"box": max(corners)} if corners else {}) | {"samples": len(expected)}


def _cpp(bundle, model, files, pixels, reference, scratch: Path) -> dict[str, Row]:
    """Compile ``deploy/cpp/pixels.cpp`` for this model and run it on the photographs."""
    from calibration import images
    from exporter import cpp

    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        raise NotRun("no C++ compiler on this machine (g++, clang++ or CXX)")
    cpp.write(bundle.folder, scratch, allow_random=True)
    command = [compiler, "-std=c++17", "-O2", f"-I{SOURCES / 'include'}", f"-I{scratch}", SOURCES / "pixels.cpp"]
    done = subprocess.run([*command, "-o", scratch / "pixels"], capture_output=True, text=True)
    if done.returncode:
        raise NotRun(f"{compiler} fails: {next(iter(done.stderr.splitlines()), '')}")
    pictures = [scratch / f"{i}.png" for i in range(len(files))]
    for path, picture in zip(files, pictures, strict=True):
        images.decode(path).save(picture, compress_level=1)
    done = subprocess.run([scratch / "pixels", scratch / "out", *pictures], capture_output=True, text=True)
    if done.returncode:
        return {"cpp": {"status": "failed", "why": done.stderr.strip(), "samples": len(files)}}
    found = np.fromfile(scratch / "out", np.float32).reshape(pixels.shape)
    apart = float(np.abs(found - pixels).max())
    way = _answers(bundle, reference, model.infer(found)) | {"pixels": apart}
    if not apart <= PIXELS:
        way |= {"status": "failed", "why": f"pixels {apart:.1e} from Python's, at most {PIXELS:.0e}"}
    return {"cpp": way}


def _said(way: Row) -> str:
    if way["status"] != "passed":
        return f"{way['status']}: {way['why']}"
    return f"passed ({float(way['relative_max']):.1e})" if "relative_max" in way else "passed"


def _leave(bundle: Passport, out: Path, record: Row) -> Row:
    """Put the record into the bundle, unless another build was published there meanwhile."""
    path = bundle.folder / "manifest.json"
    try:
        with Store(out / ".cache").lock(f"{bundle.folder.parent.name}.bundle"):
            manifest = json.loads(path.read_text())
            if manifest["onnx"] != bundle.manifest["onnx"] or manifest["engine"] != bundle.manifest["engine"]:
                raise UsageError(
                    "the bundle was built again meanwhile", model=manifest["model"], stage="crosscheck",
                    found=manifest["onnx"]["sha256"][:12], expected=record["onnx"][:12], next="the same command again",
                )  # fmt: skip
            write_json(bundle.folder / FILE, record)
            write_json(path, manifest | {FIELD: record["ways"]})
    except OSError as error:
        raise unwritable(bundle.folder, error) from None
    return record
