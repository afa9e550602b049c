"""How far the typed graph's outputs were from torch's, sample by sample, from what the parity stages stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exporter import arrays, registry, samples
from exporter.metrics import softmax
from exporter.reporting.published import Published, entry
from exporter.store import Entry
from exporter.types import Batch

EXPONENTS = (-9, 1)
"""Decades of the histogram, as shares of the largest reference value; what lies outside counts at its ends."""

BINS_A_DECADE = 5
BEST = 5


@dataclass(frozen=True)
class Spread:
    """One output's differences. ``shares`` are those of ``edges``' bins; ``exact`` and ``broken`` (NaN, Inf) the rest.

    ``scale``: the largest absolute value of the reference, that differences are a share of.
    """

    edges: np.ndarray
    shares: np.ndarray
    exact: float
    broken: float
    count: int
    largest: float
    scale: float


@dataclass(frozen=True)
class Row:
    """The sample ``name``, the ``index``-th, at its worst: ``error`` as a share; both sides' outputs by name."""

    name: str
    index: int
    error: float
    torch: dict[str, np.ndarray]
    typed: dict[str, np.ndarray]


@dataclass(frozen=True)
class Differences:
    """``outputs``: their spreads by name; ``rows``: every sample once, the worst first; ``runs`` counts the rows."""

    outputs: dict[str, Spread]
    rows: list[Row]
    runs: int


def of(out: Path, bundle: Published) -> Differences | str:
    """The differences of a bundle, or why they are not known."""
    reference, typed = (entry(out, bundle, stage) for stage in ("reference", "typed_parity"))
    for found in (reference, typed):
        if not isinstance(found, Entry):
            return found
    try:
        with np.load(reference.path("reference.npz")) as stored:
            expected = dict(stored)
        answers = arrays.read(typed.path("typed.npz"))
        names = reference.meta["samples"]
        precision = registry.precisions().get(bundle.precision)
        noise = precision is None or not precision.quantized
        plan = samples.schedule(len(names), Batch(**bundle.manifest["batch"]), noise)
        return between(names, plan, expected, answers)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        return f"the cached outputs do not fit together ({type(error).__name__}: {error})"


def between(names: list[str], plan: list[np.ndarray], expected: dict, answers: arrays.Outputs) -> Differences:
    """Compare ``expected`` (a row a sample) with ``answers``, batch by batch as ``plan`` says which rows they are."""
    where = np.concatenate(plan)
    values = {name: np.concatenate([batch[name] for batch in answers]) for name in expected}
    gaps, spreads = {}, {}
    for name, reference in expected.items():
        if values[name].shape != (len(where), *reference.shape[1:]):
            raise ValueError(f"{name} has the shape {values[name].shape}, the plan {len(where)} rows")
        with np.errstate(all="ignore"):
            scale = float(np.abs(reference).max()) or 1.0
            gaps[name] = np.abs(values[name].astype(np.float64) - reference[where]).reshape(len(where), -1) / scale
        spreads[name] = spread(gaps[name], scale)
    worst = np.max([np.nan_to_num(gap, nan=np.inf).max(1) for gap in gaps.values()], axis=0)
    rows = []
    for index in dict.fromkeys(where[np.argsort(-worst, kind="stable")].tolist()):
        at = int(np.flatnonzero(where == index)[worst[where == index].argmax()])
        sides = {n: e[index] for n, e in expected.items()}, {n: v[at] for n, v in values.items()}
        rows.append(Row(names[index], index, float(worst[at]), *sides))
    return Differences(spreads, rows, len(where))


def spread(gaps: np.ndarray, scale: float = 1.0) -> Spread:
    """The histogram of absolute differences, given as shares of ``scale``."""
    low, high = EXPONENTS
    edges = np.logspace(low, high, (high - low) * BINS_A_DECADE + 1)
    flat = gaps.ravel()
    good = flat[np.isfinite(flat) & (flat > 0)]
    counts, _ = np.histogram(np.clip(good, edges[0], edges[-1]), edges)
    broken = float(np.mean(~np.isfinite(flat)))
    largest = float(np.max(flat)) if not broken else float("inf")
    return Spread(edges, counts / flat.size, float(np.mean(flat == 0)), broken, flat.size, largest, scale)


def best_classes(logits: np.ndarray) -> list[tuple[int, float, float]]:
    """The five best classes of one sample: (index, logit, softmax share)."""
    order = np.argsort(-logits, kind="stable")[:BEST]
    shares = softmax(logits)
    return [(int(i), float(logits[i]), float(shares[i])) for i in order]


def best_boxes(logits: np.ndarray, boxes: np.ndarray) -> list[tuple[int, int, float, list[float]]]:
    """DETR's five surest queries of one sample: (query, class, share, [centre x, centre y, width, height]).

    The last class of ``logits`` (Q, C + 1) is "no object" and is not among them.
    """
    shares = softmax(logits)[:, :-1]
    sure = shares.max(-1)
    order = np.argsort(-sure, kind="stable")[:BEST]
    return [(int(q), int(shares[q].argmax()), float(sure[q]), [float(v) for v in boxes[q]]) for q in order]
