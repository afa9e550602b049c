"""``make roofline``: what a model costs on GPUs that are not here, from the kernels that the compiler emitted.

Three figures a chip, in microseconds, and why they differ: ``resident_us`` if the L2 cache gave what it can hold for
nothing (nobody is faster), ``floor_us`` if every operand came from memory (the usual roofline), ``launched_us`` the
latter plus a launch for each kernel (what to expect of a good engine; an assumption, not a bound).
"""

from __future__ import annotations

import json

from exporter import SCHEMA, __version__, baseline, growth, pipeline, projected, roofline
from exporter.chips import CATALOGUE, Chip
from exporter.errors import UsageError, nearest
from exporter.files import write_json
from exporter.kernels import Kernel
from exporter.progress import Progress
from exporter.types import Request

FILE = "roofline.json"

FOREIGN = "sm90"
"""Hopper, which TensorRT-RTX does not compile for: its bound is the graph's."""

WEAK = (
    "L2: a tensor that the cache still holds costs no memory traffic, so at small batches on large caches the truth "
    "lies between the first two figures",
    f"launches: {roofline.LAUNCH_US} us for each kernel is an assumption for CUDA graphs; without graphs it is more",
    "shapes of products: a chip reaches its peak with large, well-shaped products at boost clock only",
    "FLOPs are those of matrix products; exponentials, norms and activations are taken to hide behind the memory",
)
"""Where this model is weak; printed and written beside every figure."""


def parse_prices(text: str | None) -> dict[str, float]:
    """Dollars a GPU-hour by chip: ``2.5`` for all, ``a100-80=1.8,l4=0.7`` for some."""
    if not text:
        return {}
    prices: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = part.strip().rpartition("=")
        try:
            price = float(number)
        except ValueError:
            price = 0.0
        if not 0 < price < 1e6 or (equals and name not in CATALOGUE):
            known = ", ".join(CATALOGUE)
            raise UsageError(
                "PRICE cannot be read",
                found=part.strip() or repr(text),
                expected=f"dollars a GPU-hour, for all chips or as CHIP=DOLLARS; chips: {known}",
                next=f"PRICE={nearest(name, CATALOGUE).split(', ')[0]}=1.5" if equals else "PRICE=a100-80=1.8,l4=0.7",
            )
        prices |= {name: price} if equals else dict.fromkeys(CATALOGUE, price)
    return prices


def floors(request: Request, progress: Progress, prices: dict[str, float], graph_only: bool = False) -> dict:
    """Everything ``roofline.json`` holds; ``graph_only`` compiles nothing and knows no kernels."""
    with progress.stage("arithmetic") as line:
        costs = growth.costs(request.recipe)
        own = next(c for c in costs if c.image == request.recipe.preprocessing.size)
        line.summary = f"{own.flops / 1e9:.1f} GFLOP an image, {own.parameters / 1e6:.1f} M parameters"
    kernels, beside, build = [], None, None
    if not graph_only:
        build = pipeline.prepare(request, progress, pipeline.COMPILED)
        report = json.loads(build.file("compile", "kernels.json").read_text())
        kernels = [Kernel.from_dict(k) for k in report["at_opt"]]
        beside = baseline.resnet50(request, progress)
    found = {
        "schema": SCHEMA,
        "tool": __version__,
        "model": request.recipe.name,
        "precision": request.precision.name,
        "image": list(request.recipe.preprocessing.size),
        "batch": request.batch.opt,
        "targets": list(request.targets),
        "backend": request.backend,
        "prices": prices,
        "flops": sum(k.flops for k in kernels) or own.flops * request.batch.opt,
        "bytes_moved": sum(k.bytes for k in kernels) if kernels else None,
        "chips": {name: _chip(name, chip, request, kernels, own, prices) for name, chip in CATALOGUE.items()},
        "kernels": [_row(k, request) for k in kernels],
        "resnet50": _beside(beside, request, prices) if beside else None,
        "growth": _growth(costs, request),
        "weak": list(WEAK),
        "command": request.command,
    }
    found["written"] = _publish(found, request, build)
    return found


def _chip(name: str, chip: Chip, request: Request, kernels: list[Kernel], own: growth.Cost, prices: dict) -> dict:
    """One chip's figures, or why the precision does not run there."""
    facts = {"chip": chip.name, "target": chip.target, "source": chip.source, "l2_mb": chip.l2, "gb": chip.capacity}
    if why := request.precision.refused.get(chip.target):
        return facts | {"refused": why}
    batch, price = request.batch.opt, prices.get(name)
    needed = own.needed(batch, *projected.sizes(request.precision))
    facts |= {"needed_bytes": needed, "fits": needed <= chip.capacity * 1e9}
    if not kernels or chip.target == FOREIGN:
        return facts | {"from": "graph"} | projected.of_graph(own, chip, request.precision, batch, price)
    where = "engine" if chip.target in request.targets else f"{request.targets[0]}'s kernels"
    return facts | {"from": where} | projected.of_kernels(kernels, chip, request.precision, batch, price)


def _row(kernel: Kernel, request: Request) -> dict:
    """One kernel: bytes, FLOPs and its limits on every chip that runs the precision."""
    on = {}
    for name, chip in CATALOGUE.items():
        if chip.target == FOREIGN or chip.target in request.precision.refused:
            continue
        limits = roofline.limits(kernel, chip, request.precision.tf32)
        on[name] = {
            "memory_us": round(limits.memory_us, 3),
            "math_us": round(limits.math_us, 3),
            "floor_us": round(limits.floor_us, 3),
            "bound": limits.bound,
        }
    told = {k: getattr(kernel, k) for k in ("name", "kind", "block", "bytes", "flops")}
    return told | {"flops_per_byte": round(kernel.flops / kernel.bytes, 1) if kernel.bytes else None, "on": on}


def _beside(found: baseline.Baseline, request: Request, prices: dict) -> dict:
    """ResNet-50's figures on every chip that its precision runs on."""
    from exporter import registry

    precision = registry.precision(found.precision)
    chips = {
        name: projected.of_kernels(found.kernels, chip, precision, found.batch, prices.get(name))
        for name, chip in CATALOGUE.items()
        if chip.target != FOREIGN and chip.target not in precision.refused
    }
    return {
        "source": found.source,
        "precision": found.precision,
        "batch": found.batch,
        "kernels": len(found.kernels),
        "flops": found.flops,
        "bytes_moved": sum(k.bytes for k in found.kernels),
        "chips": chips,
    }


def _growth(costs: list[growth.Cost], request: Request) -> dict:
    """The cost by image size for one image, and by batch at the model's own size; what memory each needs."""
    weight, activation = projected.sizes(request.precision)
    own = next(c for c in costs if c.image == request.recipe.preprocessing.size)
    image = [
        cost.as_dict()
        | {
            "attention_power": power,
            "needed_bytes": cost.needed(1, weight, activation),
            "attention_bytes": round(cost.attention_elements * activation),
        }
        for cost, power in zip(costs, growth.exponents(costs), strict=True)
    ]
    batches = sorted({1, request.batch.min, request.batch.opt, request.batch.max, 4 * request.batch.max})
    batch = [
        {
            "batch": n,
            "flops": n * own.flops,
            "needed_bytes": own.needed(n, weight, activation),
            "attention_bytes": round(n * own.attention_elements * activation),
        }
        for n in batches
    ]
    return {"image": image, "batch": batch}


def _publish(found: dict, request: Request, build) -> str | None:
    """Write ``roofline.json`` into the bundle that these kernels are of; None where there is no such bundle."""
    folder = request.out / request.recipe.folder / request.precision.name
    try:
        stages = json.loads((folder / "manifest.json").read_text())["stages"]
    except (OSError, ValueError, KeyError):
        return None
    if build is None or stages.get("compile") != build.entries["compile"].key:
        return None
    write_json(folder / FILE, found | {"written": str(folder / FILE)})
    return str(folder / FILE)
