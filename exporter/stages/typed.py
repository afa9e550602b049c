"""``formed.onnx`` -> ``model.onnx``: quantised where the precision is, then strongly typed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from exporter.build import Build
from exporter.choice import Choice
from exporter.files import write_json
from exporter.stages import calibrate, form, rewrite
from exporter.stages.reference import versions
from exporter.store import Entry
from exporter.types import Request

NAME = "type"
NEEDS = ("form", "islands", "calibrate", "place")
CODE = (
    "exporter.casting",
    "exporter.emitted",
    "exporter.keeping",
    "exporter.probe",
    "exporter.onnxio",
    "exporter.quantizing",
    "exporter.placement",
    *rewrite.REWRITING,
)
FILE = "model.onnx"
RANGES = "ranges.json"
WARNED = 5
"""Tensors near the type's limit that are warned of by name; ``ranges.json`` has them all."""


def parts(build: Build) -> dict:
    from exporter import samples
    from exporter.registry import source

    name = build.request.precision.name
    return {
        "precision": name,
        "io": build.request.io,
        "precision_code": source(f"exporter.precisions.{name.replace('-', '_')}"),
        "keep_fp32": sorted(build.request.precision.keep_fp32),
        "wide": [sorted(wide(build.request)), sorted(unquantized(build.request))],
        "images": samples.fingerprint(build.images) if build.request.precision.element_type == "float16" else None,
        "static_batch": build.request.batch.opt if build.request.batch.static else None,
        "versions": versions("onnx", "ml-dtypes", "numpy"),
    }


def wide(request: Request) -> frozenset[str]:
    """The modules that the recipe computes in FP32 around the precision's narrow type."""
    return frozenset(request.recipe.wide.get(request.precision.element_type, ()))


def unquantized(request: Request) -> frozenset[str]:
    """The modules that the recipe keeps the precision's 8-bit type out of."""
    return wide(request) | frozenset(request.recipe.wide.get(request.precision.quantized, ()))


@dataclass
class Made:
    """A typed graph and how it came about; ``quantized`` and ``left`` name nodes of 8-bit products and why not."""

    typed: object
    observed: dict = field(default_factory=dict)
    quantized: tuple[str, ...] = ()
    left: dict[str, str] = field(default_factory=dict)

    @property
    def model(self):
        return self.typed.model


def make(
    canonical,
    request: Request,
    chosen: Choice,
    note: Callable[[str], None] = lambda text: None,
    proven: bool = True,
    answers: Sequence[dict] = (),
):
    """(the typed graph of a canonical one, reports of the rewrites): attention in a form, then the 16-bit precision.

    What ``make tune`` and ``make explain`` compile: no images are looked at, nothing is quantised. Without ``proven``
    the rewrites are counted and checked, and what they compute is not compared: for what is only weighed. ``answers``
    are the canonical graph's, where they are known.
    """
    from exporter import rewriting

    formed, reports = rewriting.rewrite(
        canonical,
        request.recipe,
        steps=chosen.steps(request.unbiased, request.without),
        native_image=request.native_image,
        progress=note,
        batches=rewriting.BATCHES if proven else (),
        answers=list(answers),
    )
    return finish(formed, request, note), reports


def observe(model, request: Request, pixels, note: Callable[[str], None]) -> dict:
    """The range of every tensor on images (S, 3, H, W), for a type that can overflow; empty for the others."""
    from exporter import probe

    if request.precision.element_type != "float16":
        return {}
    note("the range of every tensor on the images")
    return probe.observe(model, pixels)


def finish(
    model,
    request: Request,
    note: Callable[[str], None] = lambda text: None,
    *,
    observed=None,
    islands: frozenset[str] = frozenset(),
    amax=None,
    at=None,
) -> Made:
    """Quantise the placement ``at`` by ``amax`` where given, then type, then fix the batch; ``model`` stays as it is.

    ``observed``: the ranges of the tensors, where they are known; what is beyond the type stays in FP32. ``islands``:
    blocks, or parts of them, that stay in FP32 whatever they hold, as the recipe's own do.
    """
    import onnx

    from exporter import casting, onnxio, probe, quantizing

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    observed, quantized, left = observed or {}, (), {}
    beyond = probe.beyond(observed, "float16") if observed else {}
    if at is not None:
        at = at.outside(unquantized(request)).ranged(amax)
        quantized, left = quantizing.quantize(copy, at, amax, request.precision).nodes, at.left
    typed = casting.cast(copy, request.precision, request.io, beyond, islands, wide(request))
    if request.batch.static:
        onnxio.fix_batch(typed.model, request.batch.opt)
    note("checking model.onnx")
    onnxio.check(typed.model)
    return Made(typed, observed, quantized, left)


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    from exporter import onnxio, placement, probe
    from exporter.emitted import softmaxes
    from exporter.stages import islands, place

    reports = []
    if calibrate.wanted(build.request):
        model, reports = place.balanced(build)
        meta = build.entries["place"].meta
        at = place.chosen(placement.find(model), meta["winner"], meta["left"])
        observed = observe(model, build.request, build.samples.pixels, build.note)
        amax = calibrate.found(build)[1]
        made = finish(model, build.request, build.note, observed=observed, amax=amax, at=at)
    else:
        model = build.model("form", form.FILE)
        observed = _observed(build, model)
        made = finish(model, build.request, build.note, observed=observed, islands=islands.kept(build))
    close = probe.beyond(made.observed, "float16", probe.NARROW)
    for name in sorted(close, key=lambda n: -made.observed[n].amax)[:WARNED]:
        build.store.warn(f"{name}: {close[name]}; images with a wider range would overflow")
    build.note("writing model.onnx")
    onnxio.save(made.model, folder / FILE)
    if made.observed:
        write_json(folder / RANGES, {"samples": list(build.samples.names), "tensors": _rows(made.observed)})
    return {
        "rewrites": [r.as_dict() for r in reports],
        "nodes": len(made.model.graph.node),
        "opset": onnxio.opset(made.model),
        "casts": made.typed.casts,
        "kept_fp32": made.typed.kept,
        "quantized": list(made.quantized),
        "left": made.left,
        "near_the_limit": close,
        "attention": softmaxes(made.model),
        "inputs": [onnxio.describe(v) for v in made.model.graph.input],
        "outputs": [onnxio.describe(v) for v in made.model.graph.output],
    }, {FILE: made.model}


def _observed(build: Build, model) -> dict:
    """What the stage ``islands`` has observed, or what is observed now."""
    entry = build.entries.get("islands")
    if entry is not None and "observed" in entry.memory:
        return entry.memory.pop("observed")
    return observe(model, build.request, build.samples.pixels, build.note)


def _rows(observed: dict) -> dict:
    """Every tensor's range, the widest first."""
    return {name: o.as_dict() for name, o in sorted(observed.items(), key=lambda item: -item[1].amax)}


def summary(entry: Entry) -> str:
    meta = entry.meta
    count = len(meta["kept_fp32"])
    kept = f", {count} node{'s' * (count != 1)} kept in FP32" if count else ""
    eight = f", {len(meta['quantized'])} products of 8 bits" if meta["quantized"] else ""
    return f"{meta['nodes']} nodes, {meta['casts']} casts{kept}{eight}, {entry.bytes / 1e6:.0f} MB"
