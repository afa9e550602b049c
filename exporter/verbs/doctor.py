"""``doctor``: what works on this machine and what does not."""

from __future__ import annotations

import argparse
from pathlib import Path

from exporter import asking

HELP = "what works on this machine, what does not, and what to type about it"


def arguments(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("--out", default="build", type=asking.OUT, help="where bundles and the cache would go (default: build)")
    add("--json", action="store_true", help="print JSON")


def run(arguments) -> int:
    from exporter import doctor, tables

    found = doctor.examine(Path(arguments.out))
    asking.show(arguments, [finding.as_dict() for finding in found], lambda: tables.findings(found))
    return 2 if any(finding.status == doctor.BROKEN for finding in found) else 0
