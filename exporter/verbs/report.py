"""``report``: one page of all that was built of a model."""

from __future__ import annotations

import argparse
from pathlib import Path

from exporter import asking

HELP = "one HTML file of what was built of a model: verdicts, differences, kernels, how it was made"


def arguments(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("model", nargs="?", help="a recipe's name (see: list)")
    add("--sweep", help="report on the sweep of this file's name instead, in OUT/sweep")
    add("--precision", default="all", help="precisions, comma-separated (default: all that were built)")
    add("--out", default="build", type=asking.OUT, help="where bundles and the cache are (default: build)")
    add("--depth", action="store_true", help="measure the error block by block first, where nobody did")
    add("--weights", help="where the weights of the builds are now (default: where their commands say)")
    add("--images", help="where the photographs of the builds are now (default: where their commands say)")
    add("--quiet", action="store_true", help="no progress, only the verdicts")
    add("--json", action="store_true", help="print the result as JSON on standard output")


def run(arguments) -> int:
    from exporter import report, request
    from exporter.errors import UsageError
    from exporter.progress import Progress

    out = request.parse_out(arguments.out)
    if (arguments.model is None) == (arguments.sweep is None):
        raise UsageError(
            "report wants a model, or --sweep", found="both" if arguments.model else "neither", expected="one of them",
            next="python -m exporter report swin_t   or   report --sweep <file>",
        )  # fmt: skip
    if arguments.sweep:
        from exporter.reporting import sweep_page

        made = sweep_page.report(Path(arguments.sweep).stem, out)
        said = f"{made['passed']} of {made['cells']} passed\nreport: {made['report']} ({made['bytes'] / 1e3:.0f} kB)"
        return asking.show(arguments, made, lambda: print(said))
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
