"""``crosscheck``: one set of photographs through every runtime of a bundle."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from exporter import asking

HELP = "the same photographs through torch, ONNX Runtime, the served model and the C++ preprocessing"


def arguments(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("model", help="a recipe's name (see: list)")
    add("--precision", default="fp16", help="the bundle's precision (default: fp16)")
    add("--out", default="build", type=asking.OUT, help="where bundles and the cache are (default: build)")
    add("--weights", help="where the weights of the build are now (default: where its command says)")
    add("--images", help="a folder of photographs (default: six that scikit-image ships)")
    add("--quiet", action="store_true", help="no progress, only the verdicts")
    add("--json", action="store_true", help="print the result as JSON on standard output")


def run(arguments) -> int:
    from exporter import crosscheck, crosscheck_report, registry, request
    from exporter.progress import Progress

    out = request.parse_out(arguments.out)
    folder = Path(out) / registry.folder(arguments.model) / arguments.precision
    found = crosscheck.check(folder, out, Progress(arguments.quiet), weights=arguments.weights, images=arguments.images)
    asking.show(arguments, found, lambda: crosscheck_report.table(found))
    for why in crosscheck.failures(found):
        print(f"error: {why}", file=sys.stderr)
    return int(bool(crosscheck.failures(found)))
