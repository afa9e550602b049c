"""The page: what :mod:`exporter.reporting` found out, in the words and the order that a reader wants them.

``exporter/templates/report.html`` lays it out; everything that comes from a file is escaped there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter import labels, passport
from exporter.errors import UsageError
from exporter.reporting import (
    accuracies,
    differences,
    eight_bits,
    inputs,
    latency,
    pictures,
    plots,
    rooflines,
    tables,
    verdicts,
)
from exporter.reporting.differences import Differences, Row
from exporter.reporting.published import Published, Unread
from exporter.reporting.tables import Table, number

TEMPLATE = "report.html"


@dataclass(frozen=True)
class Worst:
    """A sample of a bundle, with both sides' answers as a table; ``picture`` is '' where ``note`` says why."""

    build: str
    name: str
    error: str
    noise: bool
    picture: str
    note: str
    table: Table


def render(out: Path, model: str, bundles: Sequence[Published], unread: Sequence[Unread], words: inputs.Words) -> str:
    """The report of a model as one HTML file; equal files in ``out`` make equal bytes."""
    return template(TEMPLATE).render(contents(out, model, bundles, unread, words))


def template(name: str):
    """A template of the package; what it shows is escaped, and what it is not given is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("exporter"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(name)


def contents(out: Path, model: str, bundles: Sequence[Published], unread: Sequence[Unread], words) -> dict[str, Any]:
    """What the template is given."""
    found = {b.name: differences.of(out, b) for b in bundles}
    measured, left = latency.of(bundles)
    known = {name: made for name, made in found.items() if isinstance(made, Differences)}
    return {
        "model": model,
        "paper": next((b.manifest["paper"] for b in bundles), ""),
        "verdicts": [verdicts.of(b) for b in (*bundles, *unread)],
        "random": verdicts.randomness(list(bundles)),
        "cautions": [(b.name, said) for b in bundles for said in verdicts.cautions(b)],
        "ladder": tables.ladder(bundles),
        "runtimes": tables.runtimes(bundles),
        "depth": _depth(model, bundles),
        "histograms": _histograms(known),
        "unknown": {name: why for name, why in found.items() if not isinstance(why, Differences)},
        "worst": [w for b in bundles if b.name in known for w in _worst(out, b, known[b.name], words)],
        "engines": tables.engines(bundles),
        "roofline": _roofline(bundles),
        "under_the_roof": rooflines.of(bundles),
        "accuracy": accuracies.of(bundles),
        "blocks": tables.blocks(bundles) if any(b.kernels for b in bundles) else None,
        "explained": any(b.before is not None for b in bundles),
        "unexplained": [b.name for b in bundles if b.kernels and b.before is None],
        "recompiled": [
            (b.name, engine, sized)
            for b in bundles
            if b.kernels and (engine := len(b.kernels["kernels"])) != (sized := len(b.kernels["at_opt"]))
        ],
        "biggest": [tables.biggest(b) for b in bundles if b.kernels],
        "latencies": measured,
        "not_taken": left,
        "eight_bits": eight_bits.of(bundles),
        "rewrites": [
            Table(f"Rewrites of {names}", tables.REWRITES, rows)
            for names, rows in tables.shared(bundles, tables.rewrites)
        ],
        "forms": tables.shared(bundles, lambda m: f"{m['attention_form']['name']}: {m['attention_form']['why']}"),
        "left_alone": _pairs(bundles, "refused", ("node", "why"), "Left as it was by a rewrite"),
        "islands": [table for b in bundles if (table := tables.islands(b))],
        "kept": _pairs(bundles, "kept_fp32", ("node", "why"), "Kept in FP32"),
        "near": _pairs(bundles, "near_the_limit", ("tensor", "why"), "Near the limit of the type"),
        "versions": _versions(bundles),
        "commands": [(b.name, b.manifest["command"]) for b in bundles],
    }


def _depth(model: str, bundles: Sequence[Published]) -> dict[str, Any]:
    known = {b.name: b.depth for b in bundles if b.depth}
    series = {n: {row["block"]: float(row["error"]) for row in d["blocks"]} for n, d in known.items() if d["blocks"]}
    summary = [
        f"{name}: {number(rows[first])} after {first}, {number(rows[last])} after {last}"
        for name, rows in series.items()
        for first, last in [(next(iter(rows)), next(reversed(rows)))]
    ]
    return {
        "plot": plots.depth(series) if series else None,
        "label": "Relative error of each block's output, in the order of the network. " + "; ".join(summary),
        "table": tables.depth(bundles),
        "images": ", ".join(dict.fromkeys(name for d in known.values() for name in d["images"])),
        "missing": [(name, ", ".join(d["missing"])) for name, d in known.items() if d["missing"]],
        "unmade": [b.name for b in bundles if not b.depth],
        "command": f"make report MODEL={model} DEPTH=1",
    }


def _histograms(known: dict[str, Differences]) -> list[dict[str, Any]]:
    made = []
    for output in dict.fromkeys(name for d in known.values() for name in d.outputs):
        spreads = {name: d.outputs[output] for name, d in known.items() if output in d.outputs}
        edges = next(iter(spreads.values())).edges
        rows = [
            (name, number(s.largest), number(s.exact, ".1%"), number(s.broken, ".1%"), number(s.scale, ".3g"),
             f"{s.count:,}", str(known[name].runs))
            for name, s in spreads.items()
        ]  # fmt: skip
        columns = ("build", ">largest", ">exactly equal", ">NaN or Inf", ">largest value", ">values", ">rows")
        made.append(
            {
                "output": output,
                "plot": plots.histogram(output, edges, {name: s.shares for name, s in spreads.items()}),
                "label": f"Sizes of the differences in {output}. "
                + "; ".join(f"{n}: at most {number(s.largest)}" for n, s in spreads.items()),
                "table": Table(f"Differences in {output}", columns, rows),
            }
        )
    return made


def _worst(out: Path, bundle: Published, found: Differences, words: inputs.Words) -> list[Worst]:
    """The worst sample and, where that is noise, the worst photograph too."""
    if not found.rows:
        return []
    shown = [found.rows[0]]
    photograph = next((row for row in found.rows if not inputs.is_noise(row.name)), None)
    if photograph is not None and photograph is not shown[0]:
        shown.append(photograph)
    names = labels.of(bundle.manifest)
    return [_one(out, bundle, row, names, words) for row in shown]


def _one(out: Path, bundle: Published, row: Row, names: list[str], words: inputs.Words) -> Worst:
    noise, picture, note = inputs.is_noise(row.name), "", ""
    if noise:
        note = "Seeded random numbers, no photograph: there is nothing to see."
    else:
        try:
            files = inputs.photographs(out, bundle, words)
            if files:
                picture = pictures.as_seen(files[row.index], passport.preprocessing(bundle.manifest))
            else:
                note = "An image of the recipe's own."
        except UsageError as error:
            note = f"The photograph cannot be shown: {error.what}."
        except (ValueError, KeyError, TypeError):
            note = "The photograph cannot be shown: the manifest's preprocessing is none."
    make = _boxes if passport.detects(bundle.manifest) else _classes
    return Worst(bundle.name, row.name, number(row.error), noise, picture, note, make(bundle, row, names))


def _classes(bundle: Published, row: Row, names: list[str]) -> Table:
    output = next(iter(row.torch))
    sides = [differences.best_classes(side[output]) for side in (row.torch, row.typed)]
    rows = []
    for rank, pair in enumerate(zip(*sides, strict=True), 1):
        cells = [(_class(i, names), f"{logit:.4f}", f"{share:.2%}") for i, logit, share in pair]
        rows.append((str(rank), *cells[0], *cells[1], "yes" if pair[0][0] == pair[1][0] else "no"))
    columns = (">rank", "torch class", ">logit", ">share", f"{bundle.name} class", ">logit", ">share", "same")
    return Table(f"Best five classes of {row.name}", columns, rows)


def _boxes(bundle: Published, row: Row, names: list[str]) -> Table:
    rows = []
    for label, side in (("torch", row.torch), (bundle.name, row.typed)):
        for query, index, share, box in differences.best_boxes(side["logits"], side["boxes"]):
            rows.append((label, str(query), _class(index, names), f"{share:.2%}", *(f"{v:.4f}" for v in box)))
    columns = ("side", ">query", "class", ">share", ">centre x", ">centre y", ">width", ">height")
    return Table(f"Best five boxes of {row.name}", columns, rows)


def _class(index: int, names: list[str]) -> str:
    return f"{index} {names[index]}" if index < len(names) else str(index)


def _roofline(bundles: Sequence[Published]) -> dict[str, Any]:
    floors: dict[str, dict[str, float]] = {}
    for b in bundles:
        for k in b.manifest["kernels"].values():
            if k.get("roofline_us"):
                floors.setdefault(k["chip"], {})[b.name] = float(k["roofline_us"])
    firsts = {b.name: next(iter(b.manifest["kernels"].values()), None) for b in bundles}
    moved = {name: {name: float(k["bytes_moved"]) / 1e6} for name, k in firsts.items() if k}
    said = "; ".join(f"{chip}: " + ", ".join(f"{n} {us:.0f}" for n, us in by.items()) for chip, by in floors.items())
    return {
        "floors": plots.bars("floor", "microseconds, at least", floors) if floors else None,
        "floors_label": f"Roofline in microseconds by GPU. {said}",
        "moved": plots.bars("moved", "MB moved", moved) if moved else None,
        "moved_label": "Megabytes moved. " + "; ".join(f"{n}: {v[n]:.0f}" for n, v in moved.items()),
        "table": tables.floors(bundles),
    }


def _pairs(bundles: Sequence[Published], key: str, columns: tuple[str, ...], caption: str) -> list[Table]:
    groups = tables.shared([b for b in bundles if b.manifest[key]], lambda manifest: manifest[key])
    return [Table(f"{caption}: {names}", columns, list(pairs.items())) for names, pairs in groups]


def _versions(bundles: Sequence[Published]) -> list[Table]:
    groups = tables.shared(bundles, lambda manifest: manifest["versions"])
    return [Table(f"Versions that made {names}", ("package", "version"), list(v.items())) for names, v in groups]
