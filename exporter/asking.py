"""What the verbs share: the words of a build request, and how a result is printed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from exporter.errors import UsageError


def folder(knob: str, default: str) -> Callable[[str], str]:
    """The type of an argument that names a folder; :class:`UsageError` for an empty name."""

    def named(text: str) -> str:
        if not text.strip():
            raise UsageError(f"{knob} is empty", found=repr(text), expected="a folder", next=f"{knob}={default}")
        return text

    return named


OUT, REPOSITORY = folder("OUT", "build"), folder("REPO", "models")


def add_request(verb: argparse.ArgumentParser) -> None:
    """The words of a build: every verb that builds takes them all."""
    add = verb.add_argument
    add("model", help="a recipe's name (see: list)")
    add("--precision", default="fp16", help="fp32, tf32, fp16 (default), bf16, int8, int8-bf16, fp8")
    add("--target", help="compute capabilities, comma-separated (default: sm80,sm86,sm89,sm120)")
    add("--batch", help="N (static) or MIN:OPT:MAX (default: the recipe's, mostly 1:8:32)")
    add("--weights", default="auto", help="auto (default), pretrained, random, or a .safetensors / .pt file")
    add("--image", help="image size in pixels, N or HEIGHTxWIDTH (default: the recipe's)")
    add("--io", default="fp32", help="type of inputs and outputs: fp32 (default) or the precision's own")
    add("--images", help="a folder of photographs for parity (default: six that scikit-image ships)")
    add("--out", default="build", type=OUT, help="where bundles and the cache go (default: build)")
    add("--backend", default="tensorrt-rtx", help="tensorrt-rtx (default, no GPU needed) or tensorrt")
    add("--without", default="", help="rewrites to leave out, comma-separated")
    add("--form", help="the form of attention (default: the tuned one)")
    add("--calib", help="images to calibrate int8 and fp8 on: a folder, .npy or .npz (default: the recipe's, --images)")
    add("--calib-images", default="512", help="how many of them, a seeded subset (default: 512)")
    add("--observer", default="mse", help="how clipping ranges are chosen: minmax, percentile, entropy, mse (default)")
    add("--max-drop", help="points of top-1 that may be lost; blocks stay in 16 bits, or FP32, until it holds")
    add("--min-top1-agreement", help="the same as a share of images: 0.995 is --max-drop 0.5")
    add("--max-error", help="the largest error of an output, as a share of its largest value; likewise")
    add("--require-gain", action="store_true", help="fail where int8 or fp8 is no faster than the 16-bit engine")
    add("--cache-limit", help="how much the cache may hold, the least recently used goes (default: 50G)")
    add("--allow-unfused", action="store_true", help="let a build pass that the compiler fused less than promised")
    add("--cache", help="a folder or an address (s3://...) of a cache that machines share (default: OUT/.cache)")
    add("--quiet", action="store_true", help="no progress, only the verdict")
    add("--json", action="store_true", help="print the result as JSON on standard output")


def request(arguments):
    """The ``BuildRequest`` that the words make; raises ``RequestError`` for words that make none."""
    from exporter import request as requests

    fields = (
        "precision",
        "batch",
        "target",
        "backend",
        "weights",
        "image",
        "io",
        "out",
        "images",
        "allow_unfused",
        "without",
        "form",
        "calib",
        "calib_images",
        "observer",
        "max_drop",
        "min_top1_agreement",
        "max_error",
        "require_gain",
        "cache_limit",
        "cache",
        "command",
    )
    return requests.parse(arguments.model, **{name: getattr(arguments, name) for name in fields})


def build(arguments):
    """Run the pipeline on the words; the finished ``Build``."""
    from exporter import pipeline
    from exporter.progress import Progress

    return pipeline.run(request(arguments), Progress(arguments.quiet))


def finish(arguments, made, data, table) -> int:
    """Print ``data`` as JSON or call ``table()``, then print the build's failures; the exit code."""
    show(arguments, data, table)
    for failure in made.failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if made.failures else 0


def show(arguments, data, table) -> int:
    """Print ``data`` as JSON or call ``table()``; exit code 0."""
    if arguments.json:
        print(json.dumps(data, indent=1, ensure_ascii=False))
    else:
        table()
    return 0
