"""``blame``: which unit of the network a graph computes differently."""

from __future__ import annotations

import argparse
from pathlib import Path

from exporter import asking

HELP = "name the unit of the network that a graph computes differently"


def arguments(verb: argparse.ArgumentParser) -> None:
    asking.add_request(verb)
    verb.add_argument("--onnx", type=Path, help="an ONNX file to judge (default: the model's own ladder)")


def run(arguments) -> int:
    from exporter import blame, blame_report
    from exporter.progress import Progress

    found = blame.blame(asking.request(arguments), Progress(arguments.quiet), arguments.onnx)
    asking.show(arguments, found, lambda: blame_report.blamed(found))
    return 1 if found["guilty"] or any(r["status"] == "failed" for r in found["rungs"].values()) else 0
