"""What ``make why`` prints."""

from __future__ import annotations

from exporter.printing import ruled, show
from exporter.why import MADE, seconds


def report(rows: list[dict]) -> None:
    """What each stage would do and the parts of its key that changed, then what that costs."""
    table = ruled("stage", "would be", ">seconds", "what changed", "then", "now")
    for row in rows:
        took = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
        changed = list(row["changed"].items()) or [("", ["", ""])]
        for i, (part, (then, now)) in enumerate(changed):
            names = (row["stage"], row["status"], took) if i == 0 else ("", "", "")
            table.add_row(*names, part, str(then), str(now))
    show(table)
    made = [row["stage"] for row in rows if row["status"] == MADE]
    if not made:
        print("everything is there: make engine takes a second or two")
    else:
        print(f"{len(made)} of {len(rows)} stages would be made again; the last time they took {seconds(rows):.0f} s")
