"""``cpp``: a bundle's facts as a C++ header for the programs of ``deploy/cpp``."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from exporter import asking

HELP = "write a bundle's model_info.hpp for the C++ loader in deploy/cpp"


def arguments(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("model", help="a recipe's name (see: list)")
    add("--precision", default="fp16", help="the bundle's precision (default: fp16)")
    add("--out", default="build", type=asking.OUT, help="where bundles are (default: build)")
    add("--into", help="the folder for model_info.hpp (default: cpp/MODEL_PRECISION)")
    add("--allow-random", action="store_true", help="take a bundle with random weights, too")
    add("--json", action="store_true", help="print the result as JSON on standard output")


def run(arguments) -> int:
    from exporter import cpp, registry

    name = registry.folder(arguments.model)
    into = Path(arguments.into or f"cpp/{name}_{arguments.precision}")
    made = cpp.write(Path(arguments.out) / name / arguments.precision, into, arguments.allow_random)

    def said() -> None:
        print(made["header"])
        at, info, engine = (shlex.quote(str(p)) for p in (into / "build", into.resolve(), made["engine"]))
        print(f"cmake -S deploy/cpp -B {at} -DMODEL_INFO={info} -DTENSORRT_ROOT=<folder>")
        print(f"cmake --build {at} && {at}/{made['program']} {engine} photo.png")

    return asking.show(arguments, made, said)
