"""What ``make accuracy`` measured of a bundle's graph, and how fast its engine can be at that accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exporter import roofline
from exporter.jsonfile import ANY, NUMBER, Damaged, read
from exporter.reporting import plots
from exporter.reporting.published import Published
from exporter.reporting.tables import Table, number

FILE = "accuracy.json"
ROW = {"status": str, "top1?": NUMBER, "top5?": NUMBER, "ap?": NUMBER, "ap50?": NUMBER, "drop?": NUMBER}
ACCURACY = {"stage": str, "data": str, "images": int, "rows": {ANY: ROW}}
COLUMNS = ("build", "runs", ">%", ">drop, points", "images")


def of(bundles: Sequence[Published]) -> dict[str, Any] | None:
    """Table and plot of the bundles whose graph was measured, and what is said of the others; None where none was."""
    rows, points, left = [], {}, []
    kind, gpu = "top-1", None
    for b in bundles:
        path = b.folder / FILE
        if not path.exists():
            continue
        try:
            found = read(path, ACCURACY)
        except Damaged as error:
            left.append(f"{b.name}: {error}")
            continue
        if found["stage"] != b.manifest["stages"].get("type"):
            left.append(f"{b.name}: {FILE} is of a graph that was here before")
            continue
        measured = {n: r for n, r in found["rows"].items() if r["status"] == "measured"}
        kind = "AP50" if any("ap50" in r for r in measured.values()) else "top-1"
        for name, row in measured.items():
            drop = number(row["drop"], ".2f") if "drop" in row else ""
            rows.append((b.name, name, number(_share(row), ".2f"), drop, f"{found['images']} of {found['data']}"))
        speed = _speed(b)
        if measured and speed and speed[1] == (gpu := gpu or speed[1]):
            points[b.name] = [(speed[0], float(_share(list(measured.values())[-1])))]
    if not rows:
        return {"table": None, "plot": None, "label": "", "left": left} if left else None
    axes = (f"images a second by the kernels ({gpu})", f"{kind}, %")
    said = "; ".join(f"{n}: {p[0][1]:.2f} % at {p[0][0]:.0f} images a second" for n, p in points.items())
    return {
        "table": Table(f"{kind} on labelled images", COLUMNS, rows),
        "plot": plots.scatter("accuracy", axes, points, most=100) if points else None,
        "label": f"Speed against accuracy. {said}",
        "left": left,
    }


def _share(row: dict) -> float:
    return 100 * float(row.get("ap50", row.get("top1", float("nan"))))


def _speed(bundle: Published) -> tuple[float, str] | None:
    """(images a second, the GPU) by the roofline and a launch a kernel, on the first target with figures."""
    for target in bundle.manifest["kernels"].values():
        floor = target.get("roofline_us")
        if floor:
            us = float(floor) + target["count"] * roofline.LAUNCH_US
            return 1e6 * target["batch"] / us, target["chip"]
    return None
