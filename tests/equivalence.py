"""One random network through every rewrite, a form of attention and every precision, beside the network as it was."""

from dataclasses import dataclass, field

import numpy as np
from graphs import feed, run, tiny_recipe
from networks import network

from exporter import casting, choice, numerics, onnxio, placement, probe, quantizing, registry, rewriting
from exporter.errors import CheckFailed
from exporter.request import FORMS, VARIANTS
from exporter.types import canonical

WIDE = ("fp16", "bf16")
UNSEEN = 8
"""A batch that the tool's own comparison does not try."""

RELATIVE = 5e-5
"""FP32 through all rewrites, as a share of the largest value: each may move it by 1e-5 of that."""

WORSE = 8.0
"""How much further from FP32 a typed graph may be than the network typed as it was, of a few hundred values each."""

EPSILON = {"fp16": 2.0**-11, "bf16": 2.0**-8}
"""Half a unit in the last place of 1."""

EIGHT_BITS = {"int8": 0.4, "int8-bf16": 0.4, "fp8": 0.7}
"""Root of the mean square error, as a share of the output's; what is wired wrongly is at 1 and more."""


@dataclass
class Seen:
    """``matches`` by rewrite; ``errors`` by precision; ``faults`` say what is wrong."""

    seed: int
    form: str
    matches: dict[str, int] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def examine(seed: int) -> Seen:
    """The network of ``seed``; nothing is raised, all that is wrong is in ``faults``."""
    variants = VARIANTS if seed % 3 == 0 else ()
    seen = Seen(seed, "+".join((sorted(FORMS)[seed % len(FORMS)], *variants)))
    try:
        _examine(network(seed), seen)
    except CheckFailed as error:
        seen.faults.append(f"{error.what}: {error.found}")
    except Exception as error:
        seen.faults.append(f"{type(error).__name__}: {str(error)[:300]}")
    return seen


def _examine(model, seen: Seen) -> None:
    feeds = feed(model, UNSEEN, seed=seen.seed)
    expected = _only(run(model, feeds))
    scale = float(np.abs(expected).max())
    steps = choice.Choice(seen.form, "drawn").steps()
    recipe = tiny_recipe(rewrites=canonical())
    rewritten, reports = rewriting.rewrite(model, recipe, steps=[*recipe.rewrites, *steps])
    for report in reports:
        seen.matches[report.name] = seen.matches.get(report.name, 0) + report.matches
    found = _only(run(rewritten, feeds))
    if found.shape != expected.shape or found.dtype != expected.dtype:
        seen.faults.append(f"{found.dtype} {found.shape}, was {expected.dtype} {expected.shape}")
        return
    seen.errors["fp32"] = _largest(found, expected, scale)
    if not seen.errors["fp32"] <= RELATIVE:
        seen.faults.append(f"fp32 moved by {seen.errors['fp32']:.2g} of the largest value")
    for name in WIDE:
        own, ours = (_largest(_twin(graph, name, feeds), expected, scale) for graph in (model, rewritten))
        seen.errors[name] = ours
        if np.isfinite(own) and not ours <= max(WORSE * own, WORSE * EPSILON[name]):
            seen.faults.append(f"{name} is {ours:.2g} from FP32, the network typed as it was {own:.2g}")
    pixels = next(iter(feeds.values()))
    amax = {name: seen_.amax for name, seen_ in probe.observe(rewritten, pixels).items() if seen_.amax > 0}
    at = placement.find(rewritten).ranged(amax)
    for name in EIGHT_BITS if at.products else ():
        quantised = _copy(rewritten)
        quantizing.quantize(quantised, at, amax, registry.precision(name))
        error = _root(_twin(quantised, name, feeds) - expected) / (_root(expected) or 1)
        seen.errors[name] = error
        if not error <= EIGHT_BITS[name]:
            seen.faults.append(f"{name} is {error:.2g} of the output from FP32 ({len(at.products)} products)")


def _only(outputs: dict) -> np.ndarray:
    return next(iter(outputs.values()))


def _copy(model):
    made = type(model)()
    made.CopyFrom(model)
    return made


def _twin(model, precision: str, feeds) -> np.ndarray:
    typed = casting.cast(_copy(model), registry.precision(precision), "fp32")
    onnxio.check(typed.model)
    return _only(run(numerics.twin(typed.model), feeds))


def _largest(found, expected, scale: float) -> float:
    """The largest difference as a share of ``scale``; infinite where a value is not finite."""
    with np.errstate(invalid="ignore"):
        error = np.abs(found.astype(np.float64) - expected).max() / (scale or 1)
    return float(error) if np.isfinite(error) else float("inf")


def _root(values) -> float:
    return float(np.sqrt(np.mean(np.square(values.astype(np.float64)))))
