"""``list``: the models."""

from __future__ import annotations

import argparse

from exporter import asking

HELP = "the models: family, parameters, GFLOPs, input, precisions"


def arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="print JSON")


def run(arguments) -> int:
    from exporter import tables

    return asking.show(arguments, tables.model_rows(), tables.models)
