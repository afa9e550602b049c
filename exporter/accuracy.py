"""``make accuracy``: how often the torch module, the rewritten graph and the typed one name the right class.

All of them see the same preprocessed images, batch by batch, so memory does not grow with their number. The typed
graph is run as its numerics twin (:mod:`exporter.numerics`); the engine where a GPU of its targets is.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from calibration import labelled
from exporter import detection, jsonfile, metrics, numerics, parity, pipeline
from exporter.backends import tensorrt
from exporter.backends.onnxruntime import run, session
from exporter.errors import UsageError
from exporter.files import unwritable, write_json
from exporter.progress import Progress
from exporter.reporting import accuracies
from exporter.stages import calibrate, engine_parity, form, place, rewrite, trace, typed, weights
from exporter.stages import compile as compile_stage
from exporter.types import Request

STAGES = (weights, trace, rewrite, form, calibrate, place, typed)
BATCH = 8
NAMED = 20
"""Images with another answer that are reported by name."""

Answer = Callable[[np.ndarray], dict[str, np.ndarray]]
"""(n, 3, H, W) -> every output by name."""


@dataclass
class Count:
    """One runtime's score so far; ``right`` has an entry for each image."""

    right: list[bool] = field(default_factory=list)
    among_five: int = 0
    answers: list[int] = field(default_factory=list)

    def add(self, scores: np.ndarray, labels: np.ndarray) -> None:
        order = np.argsort(-scores, axis=1, kind="stable")
        self.answers += order[:, 0].tolist()
        self.right += (order[:, 0] == labels).tolist()
        self.among_five += int((order[:, :5] == labels[:, None]).any(1).sum())


def accuracy(request: Request, progress: Progress, data: Path | None = None) -> dict[str, Any]:
    """The report: ``rows`` by runtime with top-1, top-5, their 95 % intervals and the drop against torch in points.

    Of a detector ``ap`` and ``ap50`` (:mod:`exporter.detection`). Raises :class:`UsageError` for images that are not
    labelled with the model's classes.
    """
    detects = request.recipe.task == "detection"
    scenes = detection.source(data, request.recipe) if detects else None
    device, why = tensorrt.cuda_device()
    on_gpu = device in request.targets
    build = pipeline.prepare(request, progress, (*STAGES, *((compile_stage,) if on_gpu else ())))
    runtimes = _runtimes(build)
    if on_gpu:
        runtimes["engine"] = _engine(build)
    if detects:
        with progress.stage("accuracy") as line:
            rows, images, skipped = detection.measure(runtimes, scenes, line.show)
            line.summary = f"{images} images of {scenes.name}"
        return _report(build, scenes.name, images, skipped, rows | ({} if on_gpu else _no_engine(request, device, why)))
    source, output = labelled.source(data, request.recipe, build.spec.classes), request.recipe.outputs[0].name
    counts = {name: Count() for name in runtimes}
    names, skipped = [], {}
    with progress.stage("accuracy") as line:
        for pixels, labels, called in _batches(source.rows(lambda name, why: skipped.setdefault(name, why))):
            for name, answer in runtimes.items():
                counts[name].add(answer(pixels)[output], labels)
            names += called
            line.show(f"{len(names)}{f' of {source.count}' if source.count else ''} images")
        line.summary = f"{len(names)} images of {source.name}"
    if not names:
        raise UsageError(
            "there are no images to measure accuracy on",
            stage="accuracy",
            found="none",
            expected="at least one",
            next="DATA=<folder>",
        )
    rows = {name: _row(count, counts["torch"], names) for name, count in counts.items()}
    rows |= {} if on_gpu else _no_engine(request, device, why)
    return _report(build, source.name, len(names), skipped, rows)


def _report(build, data: str, images: int, skipped: dict, rows: dict) -> dict[str, Any]:
    """The report; where the bundle of this graph is there, it is laid beside it for ``make report``."""
    found = _found(build, data, images, skipped, rows)
    request = build.request
    folder = request.out / request.recipe.folder / request.precision.name
    with contextlib.suppress(jsonfile.Damaged):
        there = jsonfile.read(folder / "manifest.json", {"stages": {"type": str}})
        if there["stages"]["type"] == found["stage"]:
            try:
                write_json(folder / accuracies.FILE, found)
            except OSError as error:
                raise unwritable(folder, error) from None
    return found


def _found(build, data: str, images: int, skipped: dict, rows: dict) -> dict[str, Any]:
    return {
        "stage": build.entries["type"].key,
        "model": build.recipe.name,
        "precision": build.request.precision.name,
        "weights": dict(build.entries["weights"].meta),
        "data": data,
        "images": images,
        "skipped": skipped,
        "rows": rows,
    }


def _runtimes(build) -> dict[str, Answer]:
    """What is measured, by name; torch comes first."""
    precision = build.request.precision
    name = build.recipe.inputs[0].name
    torch_runner = parity.TorchRunner(build.module, build.recipe)
    graphs = {"rewritten": build.model("rewrite", rewrite.FILE)}
    if precision.element_type != "float32" or precision.tf32:
        numerics.canary()
        graphs["typed"] = numerics.twin(build.model("type", typed.FILE), precision.tf32)
    found: dict[str, Answer] = {"torch": lambda pixels: torch_runner.infer_impl({name: pixels})}
    size = build.request.batch.opt if build.request.batch.static else None
    for label, graph in graphs.items():
        made = session(graph)
        fixed = size if label == "typed" else None
        found[label] = _answer(lambda feed, made=made: run(made, feed), name, fixed)
    return found


def _engine(build) -> Answer:
    """The engine on this machine's GPU, loaded once."""
    name = build.recipe.inputs[0].name
    runner = tensorrt.runner(build.file("compile", "model.engine"), build.request.backend)
    runner.activate()

    def run_engine(feed: dict) -> dict:
        found = runner.infer(engine_parity.typed(feed, build))
        return {key: parity.as_float32(value) for key, value in found.items()}

    size = build.request.batch.opt if build.request.batch.static else None
    return _answer(run_engine, name, size)


def _answer(answers: Callable[[dict], dict], name: str, size: int | None) -> Answer:
    """The outputs of ``answers(feed)``; a graph of one batch size gets that many images, repeated if they are fewer."""

    def answer(pixels: np.ndarray) -> dict[str, np.ndarray]:
        if size is None:
            return answers({name: pixels})
        parts = []
        for start in range(0, len(pixels), size):
            part = pixels[start : start + size]
            found = answers({name: np.resize(part, (size, *part.shape[1:]))})
            parts.append({key: value[: len(part)] for key, value in found.items()})
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    return answer


def _batches(rows: Iterator) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
    pending = []
    for row in rows:
        pending.append(row)
        if len(pending) == BATCH:
            yield _stacked(pending)
            pending = []
    if pending:
        yield _stacked(pending)


def _stacked(rows: list) -> tuple[np.ndarray, np.ndarray, list[str]]:
    names, pixels, labels = zip(*rows, strict=True)
    return np.stack(pixels), np.array(labels), list(names)


def _row(count: Count, reference: Count, names: list[str]) -> dict[str, Any]:
    images = len(count.right)
    right, first = np.array(count.right), np.array(reference.right)
    lost, won = int((first & ~right).sum()), int((~first & right).sum())
    changed = [name for name, a, b in zip(names, count.answers, reference.answers, strict=True) if a != b]
    row = {
        "status": "measured",
        "top1": float(right.mean()),
        "top1_interval": list(metrics.interval(float(right.mean()), images)),
        "top5": count.among_five / images,
    }
    if count is reference:
        return row
    return row | {
        "drop": 100 * (lost - won) / images,
        "drop_interval": [100 * end for end in paired(lost, won, images)],
        "changed": len(changed),
        "changed_images": changed[:NAMED],
    }


def paired(lost: int, won: int, images: int) -> tuple[float, float]:
    """The 95 % interval of a drop in accuracy, as a share, of two models on the same images (Wald's for paired data).

    ``lost`` images only the first one names rightly, ``won`` only the second.
    """
    drop = (lost - won) / images
    width = 1.96 * math.sqrt(max(lost + won - (lost - won) ** 2 / images, 0.0)) / images
    return drop - width, drop + width


def _no_engine(request: Request, device: str | None, why: str) -> dict[str, dict]:
    """The engine's row where there is no GPU for it."""
    why = why if device is None else f"the engine is for {', '.join(request.targets)}, the GPU here is {device}"
    return {"engine": {"status": "not run", "why": why}}
