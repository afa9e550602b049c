"""Comparisons through Polygraphy's Comparator, and what they report.

Polygraphy calls empty against empty a pass and pairs outputs of other names by their position, so names, counts and
shapes are checked here first; a comparison of nothing is a failure.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from polygraphy.backend.base import BaseRunner
from polygraphy.backend.onnxrt import OnnxrtRunner
from polygraphy.common import TensorMetadata
from polygraphy.comparator import Comparator, RunResults
from polygraphy.logger import G_LOGGER

from exporter import metrics, modules, queries
from exporter.arrays import Outputs
from exporter.types import Recipe, Tolerance

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"

G_LOGGER.module_severity = {"": G_LOGGER.CRITICAL}


class TorchRunner(BaseRunner):
    """Runs a torch module on the CPU; Polygraphy's own runner moves everything to a CUDA device."""

    def __init__(self, module, recipe: Recipe):
        super().__init__(name="torch")
        self.module = module
        self.recipe = recipe

    def get_input_metadata_impl(self):
        metadata = TensorMetadata()
        for spec in self.recipe.inputs:
            metadata.add(spec.name, np.dtype(spec.dtype), (-1, *spec.shape))
        return metadata

    def infer_impl(self, feed_dict):
        import torch

        started = time.perf_counter()
        with torch.no_grad():
            inputs = [torch.from_numpy(feed_dict[spec.name]) for spec in self.recipe.inputs]
            values = modules.answers(self.module, self.recipe, inputs)
        self.inference_time = time.perf_counter() - started
        names = [spec.name for spec in self.recipe.outputs]
        return OrderedDict((n, v.numpy()) for n, v in zip(names, values, strict=True))


def run(runner: BaseRunner | Callable[[], BaseRunner], feeds: Sequence[Mapping[str, np.ndarray]]) -> Outputs:
    """Every feed through one runner, by Polygraphy."""
    results = Comparator.run([runner], data_loader=list(feeds))
    return [{name: as_float32(value) for name, value in result.items()} for result in results[0][1]]


def as_float32(value) -> np.ndarray:
    """A runner's output as FP32 numpy, whether it is an array or a torch tensor on any device."""
    if not isinstance(value, np.ndarray):
        value = value.detach().float().cpu().numpy()
    return np.array(value, dtype=np.float32)


def run_onnx(model, feeds: Sequence[Mapping[str, np.ndarray]], threads: int = 0) -> Outputs:
    """Every feed through ONNX Runtime on the CPU, on all cores or on so many ``threads``."""
    from exporter.backends.onnxruntime import session

    return run(OnnxrtRunner(session(model, threads=threads)), feeds)


@dataclass(frozen=True)
class Match:
    """One output of one batch; true where it is inside its tolerance. What Polygraphy's Comparator counts."""

    errors: dict[str, float]
    passed: bool

    def __bool__(self) -> bool:
        return self.passed


@dataclass(frozen=True)
class Rung:
    """One comparison of the ladder. ``why`` says why it failed or did not run."""

    status: str
    why: str = ""
    samples: int = 0
    batches: tuple[int, ...] = ()
    tolerance: Tolerance | None = None
    outputs: dict[str, dict[str, float]] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)
    images: int = 0
    """How many different images are among the samples, where that is known."""

    def as_dict(self) -> dict[str, Any]:
        worst = {
            key: float(pick([o[key] for o in self.outputs.values()]))
            for key, pick in (("max_abs", np.max), ("mean_abs", np.max), ("relative_max", np.max), ("cosine", np.min))
            if self.outputs
        }
        return {
            "status": self.status,
            **_as_json(worst),
            **_as_json(self.agreement),
            **self._interval(),
            "images": self.images or None,
            "samples": self.samples,
            "batches": list(self.batches),
            "tolerance": vars(self.tolerance) if self.tolerance else None,
            "outputs": {name: _as_json(errors) for name, errors in self.outputs.items()},
            "why": self.why,
        }

    def _interval(self) -> dict[str, list[float]]:
        """The 95 % interval of the top-1 agreement for this number of different images."""
        share = self.agreement.get("top1_agreement")
        if share is None or not self.images:
            return {}
        return {"top1_interval": [round(end, 4) for end in metrics.interval(share, self.images)]}


def _as_json(numbers: Mapping[str, float]) -> dict[str, float | str]:
    """NaN and infinities as the words that ``float`` reads: JSON has no numbers for them."""
    return {key: value if np.isfinite(value) else str(value) for key, value in numbers.items()}


def compare(recipe: Recipe, tolerance: Tolerance, reference: Outputs, values: Outputs, images: int = 0) -> Rung:
    """``values`` against ``reference``, batch by batch; each output of each batch must be inside ``tolerance``.

    ``images``: how many different ones there are among the samples, for the confidence in their agreement.
    """
    if fault := _incomparable(recipe, reference, values):
        return Rung(FAILED, fault, tolerance=tolerance)
    if recipe.set_of_queries:
        values = [queries.ordered(a, b) for a, b in zip(reference, values, strict=True)]
    results = RunResults()
    results.add([OrderedDict(batch) for batch in reference], runner_name="reference")
    results.add([OrderedDict(batch) for batch in values], runner_name="value")

    def judge(first, second):
        return OrderedDict((name, _match(np.array(first[name]), np.array(second[name]), tolerance)) for name in first)

    with np.errstate(all="ignore"):
        accuracy = Comparator.compare_accuracy(results, compare_func=judge)
    matches = accuracy[0][("reference", "value")]
    rows = [len(next(iter(batch.values()))) for batch in reference]
    outputs = {name: _worst([m[name].errors for m in matches], rows) for name in matches[0]}
    agreement = _mean([metrics.agreement(recipe.task, a, b) for a, b in zip(reference, values, strict=True)], rows)
    failed = [(name, size, m[name]) for m, size in zip(matches, rows, strict=True) for name in m if not m[name]]
    return Rung(
        FAILED if failed else PASSED,
        _why(failed, tolerance),
        sum(rows),
        tuple(rows),
        tolerance,
        outputs,
        agreement,
        images,
    )


def _incomparable(recipe: Recipe, reference: Outputs, values: Outputs) -> str:
    """Why two runs cannot be compared at all, or ''."""
    names = [spec.name for spec in recipe.outputs]
    if not names or not reference:
        return "nothing to compare: " + ("no samples" if names else "the recipe has no outputs")
    if len(reference) != len(values):
        return f"{len(values)} batches, the reference has {len(reference)}"
    for first, second in zip(reference, values, strict=True):
        for side, batch in (("reference", first), ("compared", second)):
            if sorted(batch) != sorted(names):
                return f"the {side} outputs are {', '.join(batch) or 'none'}, the recipe's are {', '.join(names)}"
        for name in names:
            if first[name].shape != second[name].shape:
                return f"{name} has the shape {second[name].shape}, the reference {first[name].shape}"
            if not first[name].ndim:
                return f"{name} has no batch axis"
            if not first[name].size:
                return f"{name} is empty"
    return ""


def _match(reference: np.ndarray, value: np.ndarray, tolerance: Tolerance) -> Match:
    found = metrics.errors(reference, value)
    return Match(found, metrics.within(found, tolerance))


def _worst(found: list[dict[str, float]], rows: list[int]) -> dict[str, float]:
    """The worst batch's errors (NaN if there is one), and the mean of the means."""
    picks = {"max_abs": np.max, "relative_max": np.max, "cosine": np.min}
    worst = {key: float(pick([f[key] for f in found])) for key, pick in picks.items()}
    return worst | {"mean_abs": float(np.average([f["mean_abs"] for f in found], weights=rows))}


def _mean(found: list[dict[str, float]], rows: list[int]) -> dict[str, float]:
    mean = {key: float(np.average([f[key] for f in found], weights=rows)) for key in found[0]}
    return mean | {key: float(np.min([f[key] for f in found])) for key in mean if key.endswith("_min")}


def _why(failed: list[tuple[str, int, Match]], tolerance: Tolerance) -> str:
    if not failed:
        return ""
    name, size, match = failed[0]
    e = match.errors
    others = f"; {len(failed)} output batches in all" if len(failed) > 1 else ""
    if not np.isfinite(e["relative_max"]):
        return f"{name} at batch {size}: NaN or infinite, no error can be computed{others}"
    return (
        f"{name} at batch {size}: relative max {e['relative_max']:.3g} (at most {tolerance.relative_max:g}), "
        f"cosine {e['cosine']:.6g} (at least {tolerance.cosine:g}){others}"
    )
