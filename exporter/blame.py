"""``make blame``: which unit of the network is the first that a graph computes differently, and why.

The ladder torch -> raw -> rewritten -> typed is walked rung by rung, or one ONNX file from elsewhere is judged. A
rung is a comparison of outputs, as in parity, and of every unit of the network on the graph's own values.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from exporter import candidate, diagnosis, guilt, jsonfile, memory, onnxio, parity, pipeline
from exporter.backends import tensorrt
from exporter.errors import UsageError
from exporter.examined import Examined
from exporter.located import Located, Unit, locate
from exporter.naming import block_of, path_of
from exporter.on_engine import OnEngine
from exporter.progress import Progress
from exporter.stages import form, islands, rewrite, trace, typed, weights
from exporter.types import Recipe, Request, Tolerance
from exporter.units import Units, owner

FORMED = (weights, trace, rewrite, form)
STAGES = (*FORMED, islands, typed)

LIMITS = {"float32": 1e-5, "tf32": 4e-3, "float16": 4e-3, "bfloat16": 3e-2}
"""What a unit may add to the error, by what it computes in: about eight roundings of the narrow types, and ten times
what two correct FP32 implementations of DETR's and Mixer's units differ by."""


ENGINE = "torch/engine"

WEIGHTS_ALONE = 0.4
"""Share of a limit that stands where only the weights are rounded."""


@dataclass(frozen=True)
class Rung:
    """A graph to judge: ``kind`` is a key of ``LIMITS``; without ``rounded`` its mathematics alone is judged."""

    name: str
    model: onnx.ModelProto
    kind: str
    tolerance: Tolerance
    tf32: bool = False
    rounded: bool = True
    graph: Examined | None = None
    """What runs, where it is not the model on the CPU."""

    @property
    def limit(self) -> float:
        """What a unit may add."""
        alone = not self.rounded and self.kind != "float32"
        return LIMITS[self.kind] * (WEIGHTS_ALONE if alone else 1.0)


def blame(request: Request, progress: Progress, onnx_file: Path | None = None) -> dict[str, Any]:
    """The report: ``rungs`` with outputs' errors and every unit's, and ``guilty``, the first unit at fault, or None."""
    quantized = request.precision.quantized
    build = pipeline.prepare(request, progress, FORMED if quantized else STAGES)
    recipe, pixels = request.recipe, build.samples.pixels
    remarks: list[str] = []
    no_engine = ""
    if onnx_file is None:
        rungs, no_engine = itertools.chain(_own(build), on_gpu(build)), without_engine(request)
        if quantized:
            remarks.append(
                f"units of 8 bits round too much to be told apart: of {request.precision.name} only what is before the "
                f"quantisation is judged; PRECISION={request.precision.base} judges the typed graph, make accuracy and "
                "MAX_DROP the 8 bits"
            )
    else:
        model, remarks = candidate.load(onnx_file, recipe)
        rungs = foreign(model, onnx_file.name, recipe)
    with progress.stage("torch") as line:
        line.show("the module on the images")
        silly = first_nan(build.module, pixels)
        line.summary = f"{len(pixels)} images" + (f", NaN in {silly}" if silly else "")
    report = {
        "model": recipe.name,
        "precision": request.precision.name,
        "onnx": str(onnx_file) if onnx_file else None,
        "weights": dict(build.entries["weights"].meta),
        "samples": list(build.samples.names),
        "remarks": remarks,
        "rungs": {},
        "guilty": None,
    }
    if silly:
        report["guilty"] = {"rung": "torch", "unit": silly, "diagnosis": "the torch module itself answers NaN or Inf"}
        return report
    known = None
    for rung in rungs:
        with progress.stage(rung.name) as line:
            memory.give_back()
            found, known, guilty = judge(rung, build.module, recipe, pixels, known, line.show)
            line.summary = _summary(found, guilty)
        report["rungs"][rung.name] = found
        if guilty is not None and report["guilty"] is None:
            report["guilty"] = {"rung": rung.name, **guilty}
            break
    if no_engine:
        report["rungs"][ENGINE] = {"status": "not run", "why": no_engine}
    return jsonfile.words(report)


def _own(build) -> Iterator[Rung]:
    """The rungs of this model's own ladder, in the form of attention that the build uses."""
    request = build.request
    formed = build.model("form", form.FILE)
    if request.batch.static:
        fixed = onnx.ModelProto()
        fixed.CopyFrom(formed)
        onnxio.fix_batch(fixed, request.batch.opt)
        formed = fixed
    exact, precision = request.recipe.tolerances["fp32"], request.precision
    yield Rung("torch/raw", build.model("trace", "raw.onnx"), "float32", exact)
    build.entries["trace"].memory.clear()  # one model in memory at a time
    for stage in ("rewrite", "form"):
        build.entries[stage].memory.clear()
    yield Rung("torch/rewritten", formed, "float32", exact)
    del formed
    if not precision.quantized and (precision.element_type != "float32" or precision.tf32):
        kind = "tf32" if precision.tf32 else precision.element_type
        tolerance = request.recipe.tolerances[precision.name]
        yield Rung("torch/typed", build.model("type", "model.onnx"), kind, tolerance, precision.tf32)


def without_engine(request: Request) -> str:
    """Why the engine is not examined unit by unit; '' where it is."""
    if request.precision.quantized:
        return "units of 8 bits round too much to be told apart; make parity compares the engine's outputs"
    device, why = tensorrt.cuda_device()
    if device is not None and device not in request.targets:
        return f"the engine is for {', '.join(request.targets)}, the GPU here is {device}"
    return why


def on_gpu(build) -> Iterator[Rung]:
    """The engine with every unit's answer as an output, where a GPU of its targets is."""
    request = build.request
    if without_engine(request):
        return
    precision = request.precision
    kind = "tf32" if precision.tf32 else precision.element_type
    model = build.model("type", "model.onnx")
    graph = OnEngine(model, request, tensorrt.cuda_device()[0])
    yield Rung(ENGINE, model, kind, request.recipe.tolerances[precision.name], precision.tf32, graph=graph)


def foreign(model: onnx.ModelProto, name: str, recipe: Recipe) -> list[Rung]:
    """A file from elsewhere: its mathematics, and, where it is of narrow types, what the hardware makes of it."""
    kind = Examined(model).weights
    precision = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}[kind]
    tolerance = recipe.tolerances[precision]
    rungs = [Rung(f"torch/{name}", model, kind, tolerance, rounded=kind == "float32")]
    if kind != "float32":
        rungs[0] = replace(rungs[0], name=f"torch/{name} unrounded")
        rungs.append(Rung(f"torch/{name} in {precision}", model, kind, tolerance))
    return rungs


def judge(
    rung: Rung,
    module,
    recipe: Recipe,
    pixels: np.ndarray,
    known: Located | None = None,
    note: Callable[[str], None] = lambda text: None,
):
    """(what is reported of the rung, where the units are, the guilty unit or None), on ``pixels`` (S, 3, H, W)."""
    graph = rung.graph or Examined(rung.model, rung.tf32)
    names = [spec.name for spec in recipe.outputs]
    reuse = known if known is not None and rung.kind != "float32" else None
    try:
        found = locate(graph, module, names, pixels, known=reuse, rounded=rung.rounded, note=note)
    except Exception as error:
        guilty = _refused(error)
        return {"status": "failed", "why": guilty["diagnosis"], "units": []}, None, guilty
    compared = parity.compare(recipe, rung.tolerance, found.expected, found.answered)
    guilty = guilt.first(found, rung.limit, compared.status == parity.FAILED)
    report = compared.as_dict() | {
        "by": "module paths in the nodes' names" if found.named else "structure: the nodes carry no module paths",
        "limit": rung.limit,
        "units": [_row(u) for u in found.units],
    }
    if guilty is None:
        return report, found, None
    note(f"what is wrong in {guilty.name}")
    ranges = diagnosis.ranges(graph, guilty, found.named, pixels)
    why = diagnosis.sentence(graph, guilty, ranges, found, Units(module), pixels)
    return report, found, _verdict(guilty, ranges, why, rung.limit)


def _verdict(unit: Unit, ranges: list, why: str, limit: float) -> dict:
    """``range``: of the first node there that makes no numbers, else of the unit's answer or what is in its place."""
    worst = next((r for r in ranges if not r.finite), None) or next(
        (r for r in ranges if r.tensor == unit.tensor), ranges[-1] if ranges else None
    )
    return {
        "block": block_of(owner(unit.name)),
        "unit": owner(unit.name),
        "seen_at": unit.name,
        "operator": worst.operator if worst else unit.operator,
        "node": worst.node if worst else "",
        "entering": unit.entering,
        "leaving": unit.leaving if unit.tensor else unit.distance,
        "own": unit.own if unit.tensor else unit.distance,
        "limit": limit,
        "range": worst.as_dict() if worst else None,
        "ranges": [r.as_dict() for r in ranges],
        "diagnosis": why,
    }


def _refused(error: Exception) -> dict:
    """The verdict on a graph that does not run, from the runtime's own words."""
    if isinstance(error, UsageError):
        raise error
    text = " ".join(str(error).split())
    node = re.search(r"Name:'([^']*)'", text)
    if node is None:
        raise UsageError(
            "ONNX Runtime cannot run the graph",
            stage="blame",
            found=text[:300],
            expected="a graph of standard operators",
            next="python -c 'import onnxruntime as o; o.InferenceSession(\"file.onnx\")' shows all of it",
        ) from error
    operator = re.search(r"running (\w+) node", text)
    path = path_of(node[1])
    return {
        "block": block_of(path),
        "unit": path or node[1],
        "seen_at": path,
        "operator": operator[1] if operator else "",
        "node": node[1],
        "range": None,
        "diagnosis": f"it does not run at batch 3: {text[text.find('Status Message:') + 15 :].strip()[:200]}",
    }


def first_nan(module, pixels: np.ndarray) -> str | None:
    """The first unit of the torch module that answers anything but numbers."""
    for start in range(0, len(pixels), 3):
        answers = Units(module).answers(pixels[start : start + 3])
        bad = next((owner(name) for name, answer in answers.items() if not np.isfinite(answer).all()), None)
        if bad is not None:
            return bad
    return None


def _row(unit: Unit) -> dict:
    facts = {"unit": unit.name, "tensor": unit.tensor, "operator": unit.operator}
    if unit.tensor is None:
        return facts | {"why": "the graph has no tensor of its own for it"}
    return facts | {"entering": unit.entering, "leaving": unit.leaving, "own": unit.own}


def _summary(report: dict, guilty: dict | None) -> str:
    if guilty is not None:
        return f"GUILTY: {guilty['unit']}"
    here = [u for u in report["units"] if u["tensor"]]
    worst = max(here, key=lambda u: u["own"], default=None)
    most = f"; most is added by {worst['unit']} ({worst['own']:.1e})" if worst else ""
    return f"{report['status']}, {len(here)} of {len(report['units'])} units compared{most}"
