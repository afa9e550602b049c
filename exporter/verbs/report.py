"""``report``: one page of all that was built of a model."""

from __future__ import annotations

import argparse

from exporter import asking

HELP = "one HTML file of what was built of a model: verdicts, differences, kernels, how it was made"


def arguments(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("model", help="a recipe's name (see: list)")
    add("--precision", default="all", help="precisions, comma-separated (default: all that were built)")
    add("--out", default="build", help="where bundles and the cache are (default: build)")
    add("--depth", action="store_true", help="measure the error block by block first, where nobody did")
    add("--weights", help="where the weights of the builds are now (default: where their commands say)")
    add("--images", help="where the photographs of the builds are now (default: where their commands say)")
    add("--quiet", action="store_true", help="no progress, only the verdicts")
    add("--json", action="store_true", help="print the result as JSON on standard output")


def run(arguments) -> int:
    from exporter import report, request
    from exporter.progress import Progress

    out = request.parse_out(arguments.out)
    found = report.report(
        arguments.model,
        out,
        Progress(arguments.quiet),
        precisions=report.parse_precisions(arguments.precision, out, arguments.model),
        depth=arguments.depth,
        weights=arguments.weights,
        images=arguments.images,
    )
    return asking.show(arguments, found, lambda: report.show(found))
