"""The table of ``make accuracy``, and whether a drop is more than was allowed."""

from __future__ import annotations

from exporter.errors import CheckFailed
from exporter.printing import ruled
from exporter.printing import show as print_table


def show(report: dict) -> None:
    """One line a runtime: what was right, and what was lost against torch on the same images."""
    detects = any("ap" in row for row in report["rows"].values())
    (_detections if detects else _classes)(report)
    if report["skipped"]:
        print(f"{len(report['skipped'])} files were skipped: {', '.join(list(report['skipped'])[:5])}")


def _classes(report: dict) -> None:
    """Top-1 with its interval, top-5, and the drop on paired images."""
    weights = report["weights"]
    table = ruled(
        "runtime", ">top-1 %", "95 % interval", ">top-5 %", ">drop, points", "95 % interval", ">other answers",
        title=f"{report['model']} {report['precision']}: {report['images']} images of {report['data']}, "
        f"weights {weights['source']}" + (f" ({weights['why']})" if weights.get("why") else ""),
    )  # fmt: skip
    for name, row in report["rows"].items():
        if row["status"] != "measured":
            table.add_row(name, row["status"], row["why"])
            continue
        cells = [name, f"{100 * row['top1']:.2f}", _interval([100 * end for end in row["top1_interval"]])]
        cells.append(f"{100 * row['top5']:.2f}")
        if "drop" in row:
            cells += [f"{row['drop']:.2f}", _interval(row["drop_interval"]), str(row["changed"])]
        table.add_row(*cells)
    print_table(table)


def _detections(report: dict) -> None:
    """One line a runtime: COCO's average precision, and what was lost against torch."""
    title = f"{report['model']} {report['precision']}: {report['images']} images of {report['data']}"
    table = ruled("runtime", ">AP %", ">AP50 %", ">AP drop, points", "95 % interval", ">AP50 drop", "95 % interval",
                  title=title)  # fmt: skip
    for name, row in report["rows"].items():
        if row["status"] != "measured":
            table.add_row(name, row["status"], row["why"])
            continue
        cells = [name, f"{100 * row['ap']:.2f}", f"{100 * row['ap50']:.2f}"]
        for key in ("drop", "drop50") if "drop" in row else ():
            cells += [f"{row[key]:.2f}", _interval(row[f"{key}_interval"])]
        table.add_row(*cells)
    print_table(table)
    print("AP: the mean over IoU 0.50 to 0.95; intervals of the drop by drawing the images anew, the same for both")


def _interval(ends: list[float]) -> str:
    return f"{ends[0]:.2f} to {ends[1]:.2f}"


def failure(report: dict, most: float | None) -> CheckFailed | None:
    """The check that ``--fail-above`` asks for, on the last runtime that ran."""
    measured = {name: row for name, row in report["rows"].items() if "drop" in row}
    name, row = list(measured.items())[-1]
    if most is None or row["drop"] <= most:
        return None
    return CheckFailed(
        f"{name} loses too much accuracy",
        model=report["model"],
        stage="accuracy",
        found=f"{row['drop']:.2f} points of {'AP' if 'ap' in row else 'top-1'} on {report['images']} images"
        + (f" ({_interval(row['drop_interval'])})" if "drop_interval" in row else ""),
        expected=f"at most {most:g}",
        next=f"make engine MODEL={report['model']} PRECISION=fp16, or CALIB=<more images>",
    )
