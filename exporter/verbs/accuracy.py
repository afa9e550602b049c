"""``accuracy``: top-1 on labelled images, stage by stage."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from exporter import asking

HELP = "how often torch, the rewritten and the typed graph are right: top-1, or a detector's average precision"


def arguments(verb: argparse.ArgumentParser) -> None:
    asking.add_request(verb)
    verb.add_argument(
        "--data",
        type=Path,
        help="a folder with one folder a class, or images and COCO's instances JSON (default: the recipe's own)",
    )
    verb.add_argument("--fail-above", type=float, help="fail where the typed graph loses more points of top-1")


def run(arguments) -> int:
    from exporter import accuracy, accuracy_report
    from exporter.progress import Progress

    report = accuracy.accuracy(asking.request(arguments), Progress(arguments.quiet), arguments.data)
    asking.show(arguments, report, lambda: accuracy_report.show(report))
    if error := accuracy_report.failure(report, arguments.fail_above):
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
