"""``make report SWEEP=``: every cell of a sweep on one page, the verdict first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exporter import __version__
from exporter.errors import UsageError
from exporter.files import unwritable, write_atomically
from exporter.jsonfile import ANY, NUMBER, Damaged, read
from exporter.reporting import plots
from exporter.reporting.tables import Table, number

TEMPLATE = "sweep.html"
FILE = "report.html"

ENGINE = {"count": int, "fused_attention": int, "attention_due": int, "bytes_moved": NUMBER, "roofline_us?": NUMBER,
          "engine_bytes": NUMBER, "cosine?": NUMBER, "chip": str, "batch": int}  # fmt: skip
BENCH = {"backend": str, "p50_ms": NUMBER, "images_per_second": NUMBER, "noisy": list}
CELL = {"cell": str, "model": str, "precision": str, "batch?": str, "target?": str, "status": str, "seconds": NUMBER,
        "steps": {ANY: {"why?": str, "figures?": dict}}}  # fmt: skip
SWEEP = {"tool": str, "name": str, "steps": [str], "settings": {ANY: str}, "cells": [CELL], "machine": dict,
         "when": str, "command": str, "of_other_versions": {ANY: str}}  # fmt: skip
COLUMNS = ("model", "precision", "batch", "target", "verdict", ">kernels", ">fused", ">MB moved", ">floor us",
           ">engine MB", ">cosine", ">p50 ms", ">images/s")  # fmt: skip


def report(name: str, out: Path) -> dict[str, Any]:
    """Write ``out/sweep/<name>/report.html``; returns its path, its bytes and how many cells passed.

    Raises :class:`UsageError` where there is no such sweep, or its results are damaged or of another version.
    """
    home = out / "sweep" / name
    again = f"make sweep SWEEP=<{name}.yaml>"
    try:
        found = read(home / "sweep.json", SWEEP)
    except Damaged as error:
        raise UsageError(
            f"there is no sweep {name!r} to report on", found=str(error), expected=str(home / "sweep.json"), next=again
        ) from None
    if found["tool"] != __version__:
        raise UsageError(
            "the sweep is of another version of the tool", found=found["tool"], expected=__version__, next=again
        )
    raw = render(found).encode(errors="replace")
    try:
        write_atomically(home / FILE, raw)
    except OSError as error:
        raise unwritable(home, error) from None
    passed = sum(cell["status"] == "passed" for cell in found["cells"])
    return {"report": str(home / FILE), "bytes": len(raw), "cells": len(found["cells"]), "passed": passed}


def render(found: dict[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("exporter"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(TEMPLATE).render(contents(found))


def contents(found: dict[str, Any]) -> dict[str, Any]:
    """What the template is given."""
    cells = found["cells"]
    bad = [cell for cell in cells if cell["status"] != "passed"]
    floors = _floors(cells)
    said = "; ".join(f"{group}: " + ", ".join(f"{p} {us:.0f}" for p, us in by.items()) for group, by in floors.items())
    return {
        "name": found["name"],
        "when": found["when"],
        "passed": len(cells) - len(bad),
        "count": len(cells),
        "failed": [(c["cell"], c["status"], _why(c)) for c in bad],
        "floors": plots.bars("floors", "microseconds, at least", floors) if floors else None,
        "floors_label": f"Roofline in microseconds by model and batch. {said}",
        "table": Table("Every cell", COLUMNS, [_row(cell) for cell in cells]),
        "settings": Table("Settings", ("knob", "value"), list(found["settings"].items())),
        "machine": Table("Machine", ("what", "value"), [(k, str(v)) for k, v in found["machine"].items()]),
        "others": sorted(found["of_other_versions"].items()),
        "command": found["command"],
    }


def _figures(cell: dict, step: str, shape: dict) -> dict | None:
    """A step's figures where it has them and they are whole."""
    from exporter.jsonfile import fault

    figures = cell["steps"].get(step, {}).get("figures")
    return figures if figures is not None and not fault(figures, shape) else None


def _floors(cells: Sequence[dict]) -> dict[str, dict[str, float]]:
    """``{model and batch: {precision: microseconds}}`` of the engines that were built."""
    found: dict[str, dict[str, float]] = {}
    for cell in cells:
        engine = _figures(cell, "engine", ENGINE)
        if engine and engine.get("roofline_us"):
            group = f"{cell['model']} at {engine['batch']}, {engine['chip']}"
            found.setdefault(group, {})[cell["precision"]] = float(engine["roofline_us"])
    return found


def _row(cell: dict) -> tuple[str, ...]:
    engine, timed = _figures(cell, "engine", ENGINE), _figures(cell, "bench", BENCH)
    made = ("",) * 6
    if engine:
        floor, cosine = engine.get("roofline_us"), engine.get("cosine")
        made = (
            str(engine["count"]), f"{engine['fused_attention']}/{engine['attention_due']}",
            number(engine["bytes_moved"] / 1e6, ".0f"), number(floor, ".0f") if floor else "",
            number(engine["engine_bytes"] / 1e6, ".0f"), number(cosine, ".6f") if cosine is not None else "not run",
        )  # fmt: skip
    clock = ("", "")
    if timed:
        noisy = " noisy" if timed["noisy"] else ""
        clock = (f"{timed['p50_ms']:.2f}{noisy} ({timed['backend']})", number(timed["images_per_second"], ".1f"))
    asked = (cell["model"], cell["precision"], cell.get("batch") or "recipe's", cell.get("target") or "default")
    return (*asked, cell["status"], *made, *clock)


def _why(cell: dict) -> str:
    return next((f"{step}: {s['why']}" for step, s in cell["steps"].items() if s.get("why")), "")
