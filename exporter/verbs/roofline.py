"""``roofline``: what a model costs on GPUs that are not here."""

from __future__ import annotations

import argparse

from exporter import asking

HELP = "the floor of every kernel on GPUs that are not here, images per second and per dollar, growth, memory"


def arguments(verb: argparse.ArgumentParser) -> None:
    asking.add_request(verb)
    verb.add_argument("--price", help="dollars a GPU-hour: 2.5 for all chips, or a100-80=1.8,l4=0.7")
    verb.add_argument("--graph-only", action="store_true", help="compile nothing: bounds from the graph's arithmetic")


def run(arguments) -> int:
    from exporter import floors, floors_report
    from exporter.progress import Progress

    prices = floors.parse_prices(arguments.price)
    found = floors.floors(asking.request(arguments), Progress(arguments.quiet), prices, arguments.graph_only)
    return asking.show(arguments, found, lambda: floors_report.shown(found))
