"""Which products an 8-bit engine computes in 8 bits: candidates through the compiler, against its 16-bit base.

A product of 8 bits can cost more than it saves: TensorRT-RTX 1.7 does not fuse INT8 attention with a bias between BF16
tensors, and that of DETR in part. So each candidate is typed, compiled with the profile's optimum as its batch, and
scored by what the compiler emitted (:mod:`exporter.score`); the base is in the table, too, and says what 8 bits gain.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from exporter import choice
from exporter.backends import tensorrt
from exporter.build import Build
from exporter.errors import UsageError
from exporter.files import write_json
from exporter.stages import calibrate, form, rewrite, typed
from exporter.store import Entry
from exporter.types import Batch, Request

NAME = "place"
NEEDS = ("rewrite", "form", "calibrate")
CODE = (
    "exporter.budget",
    "exporter.queries",
    "exporter.numerics",
    "exporter.metrics",
    "exporter.score",
    "exporter.roofline",
    "exporter.chips",
    "exporter.kernels",
    "exporter.layers",
    "exporter.emitted",
    "exporter.stages.typed",
    *typed.CODE,
)
FILE = "placement.json"
EVERYTHING, PRODUCTS = "products and attention", "products"
CANDIDATES = {EVERYTHING: True, PRODUCTS: False}
"""Whether attention's own products are quantised, by name."""
WITHIN = "within the budget"

wanted = calibrate.wanted


def parts(build: Build) -> dict:
    request = build.request
    own = _own(request)
    return {
        "base_form": rewrite.steps(own.steps(request.unbiased, request.without)),
        "backend": request.backend,
        "version": tensorrt.version(request.backend),
        "wide": [sorted(typed.wide(request)), sorted(typed.unquantized(request))],
        "target": request.targets[0],
        "batch": request.batch.opt,
        "precision": request.precision.name,
        "goal": str(request.goal),
    }


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    from exporter import placement, registry

    request = build.request
    fixed = replace(request, batch=Batch(*[request.batch.opt] * 3), targets=request.targets[:1])
    base = replace(fixed, precision=registry.precision(request.precision.base))
    model = build.model("form", form.FILE)
    build.note(f"{base.precision.name}, to compare with")
    rows, kernels = {}, {}
    rows[base.precision.name], kernels[base.precision.name] = _score(_base(build, model, base), base)
    channels, amax = calibrate.found(build)
    balanced, reports = calibrate.balance(model, build, channels)
    at = placement.find(balanced).outside(typed.unquantized(request))
    for name in _candidates(at):
        build.note(f"{request.precision.name}: {name}")
        made = typed.finish(balanced, fixed, amax=amax, at=chosen(at, name))
        rows[name], kernels[name] = _score(made, fixed)
    scored = {name: rows[name] for name in _candidates(at) if "refused" not in rows[name]}
    if not scored:
        raise UsageError(
            f"the compiler takes no {request.precision.name} form of this graph",
            model=request.recipe.name,
            found="; ".join(row["refused"] for row in rows.values() if "refused" in row),
            expected="products of 8 bits that it compiles",
            next=f"make engine MODEL={request.recipe.name} PRECISION={base.precision.name}",
        )
    winner = min(scored, key=lambda name: (rows[name]["due"] - rows[name]["fused"], rows[name]["total_us"]))
    left, table = [], []
    if request.goal:
        left, table = _within(build, balanced, chosen(at, winner), kernels[base.precision.name], kernels[winner])
    if left:
        build.note(f"{request.precision.name} without {len(left)} blocks")
        kept = chosen(at, winner, left)
        rows[WITHIN], _ = _score(typed.finish(balanced, fixed, amax=amax, at=kept), fixed)
    gain = round(rows[base.precision.name]["total_us"] / rows[WITHIN if left else winner]["total_us"], 3)
    facts = {"base": base.precision.name, "winner": winner, "gain": gain, "batch": fixed.batch.opt, "rows": rows}
    facts |= {"left": left, "goal": str(request.goal), "search": table}
    write_json(folder / FILE, facts)
    return facts, {"balanced": (balanced, reports)}


def _base(build: Build, model, base: Request) -> typed.Made:
    """The typed graph of the 16-bit engine, its attention in the form that it has where nothing is quantised.

    It is compiled to be compared with and never left; its own build proves it.
    """
    own = _own(build.request)
    if own.form == build.entries["form"].meta["form"]:
        return typed.finish(model, base)
    return typed.make(build.model("rewrite", rewrite.FILE), base, own, build.note, proven=False)[0]


def _own(request: Request) -> choice.Choice:
    from exporter import registry

    return choice.choose(replace(request, precision=registry.precision(request.precision.base)))


def _candidates(at) -> list[str]:
    return list(CANDIDATES) if at.operands else [PRODUCTS]


def chosen(at, name: str, left=()):
    """The part of a placement that a candidate quantises, without the blocks that stay in 16 bits."""
    return (at if CANDIDATES[name] else at.products_only()).without(frozenset(left))


def _within(build: Build, balanced, at, base: list, quantised: list) -> tuple[list[str], list[dict]]:
    """(the blocks that stay in 16 bits for the drop to be within the budget, the table of the search)."""
    from exporter import budget, roofline

    request, amax = build.request, calibrate.found(build)[1]
    free = replace(request, batch=Batch(1, 8, 32), io="fp32")
    savings = budget.saved(base, quantised, roofline.nearest(request.targets[0]))
    rows = calibrate.source(build).rows(lambda name, why: None)
    answers = budget.Answers(build.model("form", form.FILE), rows, request.recipe, request.goal)

    def made(out: frozenset[str]):
        placed = at.without(out)
        return typed.finish(balanced, free, amax=amax, at=placed).model if placed.products else None

    blocks = list(dict.fromkeys(p.block for p in at.products))
    table = budget.search(blocks, made, answers, savings, request.goal, build.note)
    first = table[-1]["left"]
    return (budget.release(first, {}, savings, made, answers, request.goal, build.note)[0] if first else []), table


def _score(made: typed.Made, request: Request) -> tuple[dict, list]:
    """(a candidate's score, its kernels), or why the compiler refuses it and none."""
    from exporter import emitted, score

    try:
        found = emitted.weigh(made.model, request)
    except UsageError as error:
        return {"refused": str(error.found)}, []
    return score.judge(found, emitted.softmaxes(made.model), request).as_dict(), found.sized


def balanced(build: Build):
    """(the formed graph with its channels balanced, the report of that)."""
    memory = build.entries[NAME].memory
    if "balanced" not in memory:
        channels, _ = calibrate.found(build)
        memory["balanced"] = calibrate.balance(build.model("form", form.FILE), build, channels)
    return memory.pop("balanced")


def best_row(meta: dict) -> dict:
    """The score of what is built."""
    return meta["rows"][WITHIN if meta["left"] else meta["winner"]]


def summary(entry: Entry) -> str:
    meta = entry.meta
    base, best = meta["rows"][meta["base"]], best_row(meta)
    left = f" but {len(meta['left'])} blocks" if meta["left"] else ""
    return (
        f"{meta['winner']}{left}: {meta['gain']:.2f}x {meta['base']} at batch {meta['batch']} by the kernels "
        f"({base['total_us']:.0f} -> {best['total_us']:.0f} us, {base['kernels']} -> {best['kernels']} kernels, "
        f"{base['bytes_moved'] / 1e6:.0f} -> {best['bytes_moved'] / 1e6:.0f} MB)"
    )
