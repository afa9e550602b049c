"""``sweep``: many engines from one file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from exporter import asking

HELP = "build, weigh and time every cell of a YAML file; what is done is not done again"


def arguments(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("file", type=Path, help="a YAML file: models, precisions, batches, targets, steps, settings")
    add("--out", default="build", type=asking.OUT, help="where bundles and the cache go (default: build)")
    add("-j", "--jobs", default="1", help="cells that are built at a time (default: 1); what is timed runs alone")
    add("--quiet", action="store_true", help="no progress, only the table")
    add("--json", action="store_true", help="print the result as JSON on standard output")


def run(arguments) -> int:
    from exporter import request, sweep, sweep_report, sweepfile

    jobs = sweep.parse_jobs(arguments.jobs)
    asked = sweepfile.read(arguments.file)

    def note(text: str) -> None:
        if not arguments.quiet:
            print(text, file=sys.stderr, flush=True)

    found = sweep.sweep(asked, request.parse_out(arguments.out), jobs, note, arguments.command)
    asking.show(arguments, found, lambda: sweep_report.shown(found))
    return 0 if all(record["status"] == "passed" for record in found["cells"]) else 1
