"""torch against ``raw.onnx`` in ONNX Runtime, and that graph on another number of threads; once per model.

Both are what correct implementations differ by, the noise floor. And what all parity stages share.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from exporter.build import Build
from exporter.stages import reference
from exporter.store import Entry
from exporter.types import Tolerance

NAME = "raw_parity"
NEEDS = ("reference", "trace")
CODE = ("exporter.parity", "exporter.queries", "exporter.metrics", "exporter.samples", "exporter.backends.onnxruntime")
PROOF = True


def parts(build: Build) -> dict:
    return {
        "batch": str(build.request.batch),
        "tolerance": vars(build.recipe.tolerances["fp32"]),
        "task": build.recipe.task,
        "versions": reference.versions("onnxruntime", "polygraphy", "numpy"),
    }


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    from exporter import arrays, parity

    feeds, expected = planned(build)
    build.note("raw.onnx in ONNX Runtime")
    model = build.model("trace", "raw.onnx")
    raw = parity.run_onnx(model, feeds)
    build.entries["trace"].memory.clear()  # the rewrites hold it as long as they need it
    tolerance = build.recipe.tolerances["fp32"]
    rung = parity.compare(build.recipe, tolerance, expected, raw, len(build.samples.names))
    arrays.write(folder / "raw.npz", raw)
    return {"rungs": {"torch/raw": rung.as_dict()}, "threads": _threads(build, model, feeds, raw)}, {"raw": raw}


def _threads(build: Build, model, feeds: list[dict], raw: list[dict]) -> dict:
    """What the smallest batch's outputs change by where ONNX Runtime splits its sums over another number of threads."""
    from exporter import metrics, parity, queries

    used = len(os.sched_getaffinity(0))
    other = 1 if used > 1 else 2
    at = min(range(len(feeds)), key=lambda i: len(next(iter(feeds[i].values()))))
    (found,) = parity.run_onnx(model, feeds[at : at + 1], threads=other)
    found = queries.ordered(raw[at], found) if build.recipe.set_of_queries else found
    errors = [metrics.errors(value, found[name])["relative_max"] for name, value in raw[at].items()]
    return {"counts": [used, other], "relative_max": max(errors)}


def tolerance(build: Build) -> Tolerance:
    """What the typed graph is allowed: the recipe's tolerance, or ``MAX_ERROR`` where that is less."""
    own, error = build.recipe.tolerances[build.request.precision.name], build.request.goal.error
    return own if error is None else replace(own, relative_max=min(own.relative_max, error))


def planned(build: Build, noise: bool = True) -> tuple[list[dict], list[dict]]:
    """(feeds, what torch answers to them), batch by batch: the schedule of the request's profile."""
    pixels, answers = build.samples.pixels, reference.outputs(build)
    plan = _plan(build, noise)
    name = build.recipe.inputs[0].name
    return [{name: pixels[rows]} for rows in plan], [{k: v[rows] for k, v in answers.items()} for rows in plan]


def answers(build: Build, stage: str, name: str, noise: bool = True) -> list[dict]:
    """What a graph answered in an earlier comparison, batch by batch: ``<name>.npz`` of a parity stage.

    Without ``noise``, where the earlier comparison had it, the rows are put together as that schedule has them.
    """
    import numpy as np

    from exporter import arrays

    entry = build.entries[stage]
    if name not in entry.memory:
        entry.memory[name] = arrays.read(entry.path(f"{name}.npz"))
    found = entry.memory[name]
    if noise:
        return found
    ran = np.concatenate(_plan(build)).tolist()
    together = {key: np.concatenate([batch[key] for batch in found]) for key in found[0]}
    return [{k: v[[ran.index(row) for row in rows]] for k, v in together.items()} for rows in _plan(build, False)]


def _plan(build: Build, noise: bool = True) -> list:
    from exporter import samples

    return samples.schedule(len(build.samples.names), build.request.batch, noise)


def summary(entry: Entry) -> str:
    return ", ".join(
        f"{name} {rung['status']}" + (f" ({float(rung['max_abs']):.1e})" if "max_abs" in rung else "")
        for name, rung in entry.meta["rungs"].items()
    )
