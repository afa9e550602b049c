"""Accuracy of the trained models by precision, beside onnxruntime's and Model Optimizer's quantisation, in one run.

``python benchmarks/accuracy.py [model ...]`` prints, for each model as it was trained, with outlier channels
(``recipes/trained/hard.py``) and with massive ones in the residual (``massive.py``), held-out accuracy, and what the
compiler makes of each graph for sm80 at batch 32 (sm89 for FP8). onnxruntime's graphs are QDQ, symmetric, per-channel
weights, on the exported graph as a user would give it; its int32 biases, which TensorRT refuses, are left out. Model
Optimizer's rows are those of ``benchmarks/model_optimizer.py``, or say that it did not run.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

import model_optimizer
import numpy as np
import onnx
from onnxruntime import quantization as ort_quantization
from safetensors.torch import save_file

from exporter import accuracy, detection, emitted, onnxio, pipeline, registry, request, roofline
from exporter import kernels as kernel_lists
from exporter.backends.onnxruntime import run, session
from exporter.errors import UsageError
from exporter.progress import Progress
from exporter.types import ModuleSpec
from recipes import detr_digits, digits
from recipes.trained import hard, massive

OURS = ("fp16", "bf16", "int8", "int8-bf16", "fp8")
THEIRS = ("MinMax", "Percentile", "Entropy")
BATCH = "32"
CALIBRATED_ON = 512
RESIDUAL = "residual 1000"
CHANGES = {"trained": None, "outliers": lambda module, recipe: hard.harden(module), RESIDUAL: massive.massive}
"""What is done to the trained weights, by the label of the rows."""
COLUMNS = ("model", "weights", "graph", "top-1 or AP50 %", "drop", "kernels", "fused", "MB", "floor us")


def main(*names: str) -> None:
    for cells in (COLUMNS, ("---",) * len(COLUMNS)):
        print("| " + " | ".join(cells) + " |")
    for name in names or [r.name for r in (*digits.RECIPES, *detr_digits.RECIPES)]:
        with tempfile.TemporaryDirectory() as out:
            for label, change in CHANGES.items():
                if label == RESIDUAL and registry.recipe(name).task == "detection":
                    continue  # it normalises after each addition
                weights = changed(name, label, change, Path(out)) if change else "auto"
                for cells in measure(name, label, weights, out):
                    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def changed(name: str, label: str, change, out: Path) -> str:
    """A checkpoint of the trained model after ``change(module, recipe)``."""
    from exporter import weights

    recipe = registry.recipe(name)
    spec = ModuleSpec(recipe.preprocessing.size, recipe.classes)
    module = change(weights.module(recipe, weights.locate(recipe, "auto"), spec), recipe)
    path = out / f"{name}_{label.replace(' ', '_')}.safetensors"
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, path)
    return str(path)


def measure(name: str, label: str, weights: str, out: str):
    """The rows of one model with one set of weights."""
    torch_accuracy = None
    for precision in OURS:
        target = "sm89" if precision == "fp8" else "sm80"
        words = {"weights": weights, "out": f"{out}/{label}", "target": target, "batch": BATCH, "allow_unfused": True}
        asked = request.parse(name, precision, **words)
        rows = accuracy.accuracy(asked, Progress(quiet=True))["rows"]
        if torch_accuracy is None:
            torch_accuracy = share(rows["torch"])
            yield name, label, "torch", f"{100 * torch_accuracy:.2f}", "", "", "", "", ""
        build = pipeline.prepare(asked, Progress(quiet=True), pipeline.STAGES)
        totals = build.entries["compile"].meta["totals"][target]
        attention = len(build.entries["type"].meta["attention"])
        floor = f"{totals['roofline_us']:.0f}" + (" (L4)" if precision == "fp8" else "")
        yield (
            name, label, f"ours {precision}", f"{100 * share(rows['typed']):.2f}",
            f"{100 * (torch_accuracy - share(rows['typed'])):.2f}",
            totals["count"], f"{totals['fused_attention']}/{attention}", f"{totals['bytes_moved'] / 1e6:.1f}", floor,
        )  # fmt: skip
    raw = build.file("trace", "raw.onnx")
    for method in THEIRS:
        model = quantized(raw, method, asked.recipe, Path(out))
        found = scored(model, asked.recipe)
        yield (name, label, f"onnxruntime {method}", f"{100 * found:.2f}", f"{100 * (torch_accuracy - found):.2f}",
               *compiled(model, asked, Path(out)))  # fmt: skip
    for method in model_optimizer.METHODS:
        yield (name, label, f"Model Optimizer {method}", *modelopt(raw, method, asked, torch_accuracy, Path(out)))


def modelopt(raw: Path, method: str, asked, torch_accuracy: float, out: Path) -> tuple:
    """The cells of Model Optimizer's graph, or why there are none."""
    rows = np.stack([row for _, row in zip(range(CALIBRATED_ON), asked.recipe.calibration(asked.recipe), strict=False)])
    try:
        model = model_optimizer.quantized(raw, method, rows, out)
    except UsageError as error:
        return f"not run: {error.next}", "", "", "", "", ""
    except subprocess.CalledProcessError as error:
        return f"failed: {(error.stderr.decode().strip().splitlines() or [str(error)])[-1][:60]}", "", "", "", "", ""
    found = scored(model, asked.recipe)
    return f"{100 * found:.2f}", f"{100 * (torch_accuracy - found):.2f}", *compiled(model, asked, out)


class _Reader(ort_quantization.CalibrationDataReader):
    def __init__(self, recipe):
        self.rows = zip(range(CALIBRATED_ON), recipe.calibration(recipe), strict=False)
        self.name = recipe.inputs[0].name

    def get_next(self):
        row = next(self.rows, None)
        return None if row is None else {self.name: row[1][None]}


def quantized(raw: Path, method: str, recipe, out: Path) -> onnx.ModelProto:
    """The exported graph after ``quantize_static``."""
    path = out / f"{method}.onnx"
    prepared = out / "prepared.onnx"
    with contextlib.redirect_stdout(sys.stderr):  # the table is standard output's
        ort_quantization.quant_pre_process(str(raw), str(prepared), skip_symbolic_shape=True)
        _quantize(prepared, path, method, recipe)
    return onnx.load(str(path))


def _quantize(prepared: Path, path: Path, method: str, recipe) -> None:
    ort_quantization.quantize_static(
        str(prepared),
        str(path),
        _Reader(recipe),
        quant_format=ort_quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=ort_quantization.QuantType.QInt8,
        weight_type=ort_quantization.QuantType.QInt8,
        calibrate_method=getattr(ort_quantization.CalibrationMethod, method),
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )


def share(row: dict) -> float:
    """Top-1 of a classifier, AP50 of a detector."""
    return row["ap50"] if "ap50" in row else row["top1"]


def scored(model: onnx.ModelProto, recipe) -> float:
    """The same of somebody else's graph, on the recipe's held-out images."""
    made, name = session(model), model.graph.input[0].name
    if recipe.task == "detection":
        runtimes = {"torch": lambda pixels: run(made, {name: pixels})}  # by itself: compared with nothing
        rows = detection.measure(runtimes, detection.source(None, recipe), lambda text: None)[0]
        return rows["torch"]["ap50"]
    output = model.graph.output[0].name
    return float(
        np.mean([run(made, {name: r[None]})[output].argmax() == label for r, label in recipe.held_out(recipe)])
    )


def compiled(model: onnx.ModelProto, asked, out: Path) -> tuple:
    """What the compiler makes of somebody else's graph for sm80, or that it refuses it."""
    fixed = request.parse(asked.recipe.name, "int8", target="sm80", batch=BATCH, out=str(out))
    onnxio.fix_batch(model, fixed.batch.opt)
    try:
        found = emitted.weigh(model, fixed)
    except UsageError as error:
        return f"refused: {str(error.found)[:60]}", "", "", ""
    names = emitted.softmaxes(model)
    totals = kernel_lists.totals(found.engine, found.sized, names)
    floor = roofline.microseconds(found.sized, roofline.CHIPS["sm80"])
    megabytes = f"{totals.bytes_moved / 1e6:.1f}"
    return totals.count, f"{totals.fused_attention}/{len(names)}", megabytes, f"{floor:.0f}"


if __name__ == "__main__":
    main(*sys.argv[1:])
