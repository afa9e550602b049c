"""Which blocks of a 16-bit graph compute in FP32 so that it keeps a budget: FP32 islands, at the least cost.

Made where ``MAX_ERROR``, ``MAX_DROP`` or ``MIN_TOP1_AGREEMENT`` is given. The cost of a block in FP32 comes from two
compilations, all of it narrow and all of it wide; its error is the numerics twin's with that block alone narrow. A
block that must be wide is then tried part by part (attention, MLP, normalisations): what need not be wide is not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from exporter.backends import tensorrt
from exporter.build import Build
from exporter.errors import UsageError
from exporter.files import write_json
from exporter.naming import block_of, part_of, path_of
from exporter.stages import form, typed
from exporter.store import Entry
from exporter.types import Batch, Request

NAME = "islands"
NEEDS = ("form",)
CODE = (
    "exporter.budget",
    "exporter.queries",
    "exporter.goal",
    "exporter.numerics",
    "exporter.metrics",
    "exporter.score",
    "exporter.roofline",
    "exporter.kernels",
    "exporter.layers",
    "exporter.emitted",
    "exporter.samples",
    "exporter.stages.typed",
    *typed.CODE,
)
FILE = "islands.json"


def wanted(request: Request) -> bool:
    """Whether a 16-bit precision was asked for with a budget."""
    precision = request.precision
    return bool(request.goal) and not precision.quantized and precision.element_type != "float32"


def parts(build: Build) -> dict:
    from exporter import samples
    from exporter.stages import calibrate

    request = build.request
    return {
        "goal": str(request.goal),
        "precision": request.precision.name,
        "keep_fp32": sorted(request.precision.keep_fp32),
        "backend": request.backend,
        "version": tensorrt.version(request.backend),
        "wide": sorted(typed.wide(request)),
        "target": request.targets[0],
        "batch": request.batch.opt,
        "images": samples.fingerprint(build.images),
        "calibration": calibrate.files(build),
    }


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    from exporter import budget, emitted, roofline

    request, model = build.request, build.model("form", form.FILE)
    answers = budget.Answers(model, _images(build), request.recipe, request.goal)
    observed = typed.observe(model, request, build.samples.pixels, build.note)
    free = replace(request, batch=Batch(1, 8, 32), io="fp32")
    places = _places(model)
    everything = frozenset(places)

    def made(out: frozenset[str]):
        return None if everything <= out else typed.finish(model, free, observed=observed, islands=out).model

    build.note("what each block costs in FP32")
    fixed = replace(request, batch=Batch(*[request.batch.opt] * 3), targets=request.targets[:1])
    narrow, wide = (
        emitted.weigh(typed.finish(model, fixed, observed=observed, islands=out).model, fixed).sized
        for out in (frozenset(), everything)
    )
    chip = roofline.nearest(request.targets[0])
    savings = budget.saved(wide, narrow, chip)
    table = budget.search(list(places), made, answers, savings, request.goal, build.note)
    if not request.goal.met(table[-1]):
        raise UsageError(
            f"{request.goal} is out of reach",
            model=request.recipe.name,
            found=f"{table[-1]['drop']:.3g} points and a largest error of {table[-1]['relative_max']:.3g} in FP32",
            expected=str(request.goal),
            next="a wider budget",
        )
    first = table[-1]["left"]
    kept, found = [], table[-1]
    if first:
        costs = budget.saved(wide, narrow, chip, part_of) | savings
        kept, found = budget.release(first, places, costs, made, answers, request.goal, build.note)
    facts = {
        "goal": str(request.goal),
        "images": answers.count,
        "kept": kept,
        "before": {key: table[0][key] for key in ("drop", "relative_max")},
        "after": {key: found[key] for key in ("drop", "relative_max")},
        "ranked": _ranked(table, narrow, wide, savings),
        "search": table,
    }
    write_json(folder / FILE, facts)
    return facts, {"observed": observed}


def _images(build: Build) -> Iterator:
    """Parity's samples, then the calibration images of a user or of the recipe."""
    from exporter.stages import calibrate

    yield from build.samples.pixels
    if build.request.calib is not None or build.recipe.calibration is not None:
        yield from calibrate.source(build).rows(lambda name, why: None)


def _places(model) -> dict[str, list[str]]:
    """The parts of every block, both in the order of the graph."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for node in model.graph.node:
        path = path_of(node.name)
        found[block_of(path)][part_of(path)] = None
    return {block: list(parts) for block, parts in found.items()}


def _ranked(table: list[dict], narrow: list, wide: list, savings: dict[str, float]) -> list[dict]:
    """Every block whose own error was measured, the first to be widened first, with what it costs and recovers.

    ``recovered`` is the block's share of all the error; ``kernels``, ``bytes`` and ``us`` are what FP32 adds.
    """
    own = {row["left"][-1]: row["own"] for row in table if "own" in row}
    total = sum(own.values()) or 1.0
    count: dict[str, int] = defaultdict(int)
    size: dict[str, int] = defaultdict(int)
    for kernels, sign in ((wide, 1), (narrow, -1)):
        for kernel in kernels:
            count[kernel.block] += sign
            size[kernel.block] += sign * kernel.bytes
    return [
        {"block": block, "error": error, "recovered": round(error / total, 4), "kernels": count[block],
         "bytes": size[block], "us": round(savings.get(block, 0.0), 1)}
        for block, error in own.items()
    ]  # fmt: skip


def kept(build: Build) -> frozenset[str]:
    """Blocks and parts of blocks that compute in FP32; none where no budget was given."""
    return frozenset(build.entries[NAME].meta["kept"]) if NAME in build.entries else frozenset()


def summary(entry: Entry) -> str:
    meta = entry.meta
    said = ", ".join(meta["kept"][:3]) + (f" and {len(meta['kept']) - 3} more" if len(meta["kept"]) > 3 else "")
    return (
        f"{meta['goal']} on {meta['images']} images: {said or 'nothing'} in FP32, largest error "
        f"{meta['before']['relative_max']:.1e} -> {meta['after']['relative_max']:.1e}"
    )
