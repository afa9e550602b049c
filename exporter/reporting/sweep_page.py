"""``make report SWEEP=``: every cell of a sweep on one page, the verdict first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exporter import __version__
from exporter.errors import UsageError
from exporter.files import as_knob, unwritable, write_atomically
from exporter.jsonfile import ANY, FINITE, Damaged, fault, read
from exporter.reporting import page, plots
from exporter.reporting.tables import Table
from exporter.sweep_report import COLUMNS, row

TEMPLATE = "sweep.html"
FILE = "report.html"

ENGINE = {"count": int, "fused_attention": int, "attention_due": int, "bytes_moved": FINITE, "roofline_us?": FINITE,
          "engine_bytes": FINITE, "cosine?": FINITE, "chip": str, "batch": int}  # fmt: skip
BENCH = {"backend": str, "p50_ms": FINITE, "images_per_second": FINITE, "noisy": list}
CELL = {"cell": str, "model": str, "precision": str, "batch?": str, "target?": str, "status": str, "seconds": FINITE,
        "steps": {ANY: {"why?": str, "figures?": dict}}}  # fmt: skip
SWEEP = {"tool": str, "name": str, "steps": [str], "settings": {ANY: str}, "cells": [CELL], "machine": dict,
         "when": str, "command": str, "of_other_versions": {ANY: str}}  # fmt: skip


def report(name: str, out: Path) -> dict[str, Any]:
    """Write ``out/sweep/<name>/report.html``; returns its path, its bytes and how many cells passed.

    Raises :class:`UsageError` where there is no such sweep, or its results are damaged or of another version.
    """
    home = out / "sweep" / name
    again = f"make sweep SWEEP=<{name}.yaml>{as_knob(out)}"
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
    return page.template(TEMPLATE).render(contents(found))


def contents(found: dict[str, Any]) -> dict[str, Any]:
    """What the template is given."""
    cells = [_whole(cell) for cell in found["cells"]]
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
        "table": Table("Every cell", COLUMNS, [row(cell) for cell in cells]),
        "settings": Table("Settings", ("knob", "value"), list(found["settings"].items())),
        "machine": Table("Machine", ("what", "value"), [(k, str(v)) for k, v in found["machine"].items()]),
        "others": sorted(found["of_other_versions"].items()),
        "command": found["command"],
    }


def _whole(cell: dict) -> dict:
    """The cell without figures that are damaged."""
    steps = {name: dict(step) for name, step in cell["steps"].items()}
    for name, shape in (("engine", ENGINE), ("bench", BENCH)):
        figures = steps.get(name, {}).get("figures")
        if figures is not None and fault(figures, shape):
            del steps[name]["figures"]
    return cell | {"batch": cell.get("batch"), "target": cell.get("target"), "steps": steps}


def _floors(cells: Sequence[dict]) -> dict[str, dict[str, float]]:
    """``{model and batch: {precision: microseconds}}`` of the engines that were built."""
    found: dict[str, dict[str, float]] = {}
    for cell in cells:
        engine = cell["steps"].get("engine", {}).get("figures")
        if engine and engine.get("roofline_us"):
            group = f"{cell['model']} at {engine['batch']}, {engine['chip']}"
            found.setdefault(group, {})[cell["precision"]] = float(engine["roofline_us"])
    return found


def _why(cell: dict) -> str:
    return next((f"{step}: {s['why']}" for step, s in cell["steps"].items() if s.get("why")), "")
