"""``triton``: a bundle as a model repository."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from exporter import asking

HELP = "write a bundle as a model repository of Triton Inference Server"


def arguments(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("model", help="a recipe's name (see: list)")
    add("--precision", default="fp16", help="the bundle's precision (default: fp16)")
    add("--out", default="build", type=asking.OUT, help="where bundles are (default: build)")
    add("--repository", default="models", type=asking.REPOSITORY, help="the model repository (default: models)")
    add("--server", help="python, tensorrt_plan or onnxruntime (default: what serves the bundle's engine)")
    add("--allow-random", action="store_true", help="write a bundle with random weights, too")
    add("--json", action="store_true", help="print the result as JSON on standard output")


def run(arguments) -> int:
    from exporter import registry, triton

    folder = Path(arguments.out) / registry.folder(arguments.model) / arguments.precision
    made = triton.write(folder, Path(arguments.repository), arguments.server, arguments.allow_random)

    def said() -> None:
        print(
            f"{made['model']} version {made['version']} ({made['backend']}) and {made['image_model']}: {made['path']}"
        )
        print(f"serve it: make serve REPO={shlex.quote(str(arguments.repository))}")

    return asking.show(arguments, made, said)
