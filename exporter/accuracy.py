"""``make accuracy``: how often the torch module, the rewritten graph and the typed one name the right class.

All of them see the same preprocessed images, batch by batch, so memory does not grow with their number. The typed
graph is run as its numerics twin (:mod:`exporter.numerics`); the engine where a GPU of its targets is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from calibration import labelled
from exporter import metrics, numerics, parity, pipeline
from exporter.backends import tensorrt
from exporter.backends.onnxruntime import run, session
from exporter.errors import UsageError
from exporter.progress import Progress
from exporter.stages import calibrate, engine_parity, form, place, rewrite, trace, typed, weights
from exporter.stages import compile as compile_stage
from exporter.types import Request

STAGES = (weights, trace, rewrite, form, calibrate, place, typed)
BATCH = 8
NAMED = 20
"""Images with another answer that are reported by name."""

Answer = Callable[[np.ndarray], np.ndarray]
"""(n, 3, H, W) -> (n, classes)."""


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

    Raises :class:`UsageError` for a model that names no classes, and for images that are not of its classes.
    """
    if request.recipe.task != "classification":
        raise UsageError(
            f"the accuracy of a {request.recipe.task} model is not measured yet",
            model=request.recipe.name,
            stage="accuracy",
            found=request.recipe.task,
            expected="a model that names one class for an image",
            next=f"make parity MODEL={request.recipe.name} compares its boxes with torch's",
        )
    device, why = tensorrt.cuda_device()
    on_gpu = device in request.targets
    build = pipeline.prepare(request, progress, (*STAGES, *((compile_stage,) if on_gpu else ())))
    source = labelled.source(data, request.recipe, build.spec.classes)
    runtimes = _runtimes(build)
    if on_gpu:
        runtimes["engine"] = _engine(build)
    counts = {name: Count() for name in runtimes}
    names, skipped = [], {}
    with progress.stage("accuracy") as line:
        for pixels, labels, called in _batches(source.rows(lambda name, why: skipped.setdefault(name, why))):
            for name, answer in runtimes.items():
                counts[name].add(answer(pixels), labels)
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
    if not on_gpu:
        rows["engine"] = {"status": "not run", "why": _why_no_engine(request, device, why)}
    return {
        "model": request.recipe.name,
        "precision": request.precision.name,
        "weights": dict(build.entries["weights"].meta),
        "data": source.name,
        "images": len(names),
        "skipped": skipped,
        "rows": rows,
    }


def _runtimes(build) -> dict[str, Answer]:
    """What is measured, by name; torch comes first."""
    precision, output = build.request.precision, build.recipe.outputs[0].name
    name = build.recipe.inputs[0].name
    torch_runner = parity.TorchRunner(build.module, build.recipe)
    graphs = {"rewritten": build.model("rewrite", rewrite.FILE)}
    if precision.element_type != "float32" or precision.tf32:
        numerics.canary()
        graphs["typed"] = numerics.twin(build.model("type", typed.FILE), precision.tf32)
    found: dict[str, Answer] = {"torch": lambda pixels: torch_runner.infer_impl({name: pixels})[output]}
    size = build.request.batch.opt if build.request.batch.static else None
    for label, graph in graphs.items():
        made = session(graph)
        fixed = size if label == "typed" else None
        found[label] = _answer(lambda feed, made=made: run(made, feed), name, output, fixed)
    return found


def _engine(build) -> Answer:
    """The engine on this machine's GPU, loaded once."""
    name, output = build.recipe.inputs[0].name, build.recipe.outputs[0].name
    runner = tensorrt.runner(build.file("compile", "model.engine"), build.request.backend)
    runner.activate()

    def run_engine(feed: dict) -> dict:
        found = runner.infer(engine_parity.typed(feed, build))
        return {key: parity.as_float32(value) for key, value in found.items()}

    size = build.request.batch.opt if build.request.batch.static else None
    return _answer(run_engine, name, output, size)


def _answer(answers: Callable[[dict], dict], name: str, output: str, size: int | None) -> Answer:
    """The scores of ``answers(feed)``; a graph of one batch size gets that many images, repeated if they are fewer."""

    def answer(pixels: np.ndarray) -> np.ndarray:
        if size is None:
            return answers({name: pixels})[output]
        parts = []
        for start in range(0, len(pixels), size):
            part = pixels[start : start + size]
            parts.append(answers({name: np.resize(part, (size, *part.shape[1:]))})[output][: len(part)])
        return np.concatenate(parts)

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


def _why_no_engine(request: Request, device: str | None, why: str) -> str:
    return why if device is None else f"the engine is for {', '.join(request.targets)}, the GPU here is {device}"
