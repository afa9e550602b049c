"""``make tune``: every form of attention through the real compiler, the best one's variants, and the table of who won.

A candidate is the canonical graph with its attention in one form, typed and compiled as ``make engine`` would; it is
scored by what the compiler emitted (:mod:`exporter.score`), or by its measured latency where the target is this
machine's GPU. Each is proven equal to the canonical graph before it is compiled, as every rewrite is.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from exporter import choice, emitted, onnxio, pipeline, score
from exporter.backends import tensorrt
from exporter.errors import CheckFailed, UsageError
from exporter.files import scratch, write_atomically
from exporter.progress import Progress
from exporter.request import FORMS, VARIANTS
from exporter.stages import typed
from exporter.types import Request


def tune(request: Request, progress: Progress) -> dict:
    """The row of the table for this request: every candidate's score, and the winner."""
    if request.recipe.attention_blocks == 0:
        raise UsageError(
            f"{request.recipe.name} has no attention to tune",
            found="no attention blocks",
            expected="a model with attention",
            next="make list",
        )
    if request.precision.quantized:
        raise UsageError(
            f"attention is tuned in 16 bits, and {request.precision.name} takes what its base does",
            found=request.precision.name,
            expected="a precision that quantises nothing",
            next=f"make tune MODEL={request.recipe.name} PRECISION={request.precision.base}",
        )
    build = pipeline.prepare(request, progress, pipeline.CANONICAL)
    canonical = build.model("rewrite", "model.fp32.onnx")
    answers = build.entries["rewrite"].memory.get("answers", ())
    candidates: dict[str, dict] = {}

    def try_out(form: str) -> None:
        with progress.stage(form) as line:
            candidates[form] = row = _candidate(canonical, answers, request, form, line.show)
            line.summary = ", ".join(f"{k} {v}" for k, v in row.items() if k != "seconds")

    for form in FORMS:
        try_out(form)
    best = winner(candidates)
    for variant in VARIANTS:
        try_out(f"{best}+{variant}")
    return {
        "compiler": f"{request.backend} {tensorrt.version(request.backend)}",
        "winner": winner(candidates),
        "candidates": candidates,
    }


def winner(candidates: dict[str, dict]) -> str:
    """The candidate of the best rank; among equals the first one."""
    scored = {form: row for form, row in candidates.items() if "refused" not in row}
    if not scored:
        form, row = next(iter(candidates.items()))
        raise CheckFailed(
            "no form of attention can be built", stage="tune", found=f"{form}: {row['refused']}",
            expected="one that the compiler takes", next="make engine, which names the rewrite or the kernel",
        )  # fmt: skip
    return min(scored, key=lambda form: rank(scored[form]))


def _candidate(canonical, answers, request: Request, form: str, note) -> dict:
    """A form's score, or why the graph or the compiler refuses it."""
    started = time.perf_counter()
    try:
        made, reports = typed.make(canonical, request, choice.Choice(form, "a candidate"), note, answers=answers)
    except CheckFailed as error:
        return {"refused": f"{error.what}: {error.found}"}
    refused = {why for r in reports if r.name == "attention_form" for why in r.refused.values()}
    if refused and not any(r.matches for r in reports if r.name in ("attention_form", "join_position_terms")):
        return {"refused": "; ".join(sorted(refused))}
    if idle := [r for r in reports if r.name in VARIANTS and not r.matches]:
        return {"refused": "; ".join(sorted(set(idle[0].refused.values()))) or f"{idle[0].name} finds nothing here"}
    with scratch(request.out) as folder:
        path = folder / "candidate.onnx"
        onnxio.save(made.model, path)
        note(f"{request.backend}, {form}")
        try:
            found = emitted.emit(made.model, path, request, folder)
        except UsageError as error:
            return {"refused": str(error.found)}
        measured = _measured(request, folder / emitted.ENGINE)
    result = score.judge(found, emitted.softmaxes(made.model), request).as_dict()
    return result | measured | {"seconds": round(time.perf_counter() - started, 1)}


def _measured(request: Request, engine: Path) -> dict[str, float]:
    """The latency at the profile's optimum, where this machine's GPU is the target; else nothing."""
    if tensorrt.cuda_device()[0] != request.targets[0]:
        return {}
    import torch

    kind = request.precision.element_type if request.io != "fp32" else "float32"
    spec = request.recipe.inputs[0]
    pixels = torch.randn(request.batch.opt, *spec.shape, generator=torch.Generator().manual_seed(0))
    feed = {spec.name: pixels.to(getattr(torch, kind))}
    return {"measured_us": round(tensorrt.latency(engine, request.backend, feed), 1)}


def rank(row: dict) -> tuple:
    """What candidates are sorted by: unfused attentions, then the measured time, or the score where there is none."""
    return row["due"] - row["fused"], row.get("measured_us", row["total_us"])


def record(request: Request, row: dict) -> None:
    """Put the row into the table that ``make engine`` reads, in place of an older one."""
    table = choice.read() | {choice.key(request.recipe.name, request): row}
    write_atomically(choice.TABLE, json.dumps(dict(sorted(table.items())), indent=1) + "\n")
