"""The rewritten graph in ONNX Runtime on the CPU, beside what a user would pick instead; interleaved, one run.

``python benchmarks/runtime.py [model]`` runs the plain export, onnxsim's and onnxslim's output of it, and the canonical
graph, FP32, two threads, one image, in turns, each with all of ONNX Runtime's own optimisations. It prints medians and
the ratio of the plain export's time to each, pair by pair, with its quartiles. Not a timed test: the figures are this
machine's.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time

import numpy as np

from exporter import onnxio, pipeline, request
from exporter.backends.onnxruntime import session
from exporter.progress import Progress

ROUNDS = 40
THREADS = 2


def main(model: str = "swin_t") -> None:
    with tempfile.TemporaryDirectory() as out:
        asked = request.parse(model, "fp32", weights="random", out=out, batch="1")
        build = pipeline.prepare(asked, Progress(quiet=True), pipeline.CANONICAL)
        plain = build.model("trace", "raw.onnx")
        graphs = {"plain export": plain, "rewritten": build.model("rewrite", "model.fp32.onnx"), **_simplified(plain)}
    runs = {name: _runner(graph, asked) for name, graph in graphs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            times[name].append(run())
    first = times["plain export"]
    print(f"{model}, FP32, batch 1, {THREADS} threads, {ROUNDS} rounds in turns")
    for name, measured in times.items():
        ratios = sorted(a / b for a, b in zip(first, measured, strict=True))
        low, middle, high = (ratios[int(share * (len(ratios) - 1))] for share in (0.25, 0.5, 0.75))
        print(f"  {name:<14} {1e3 * statistics.median(measured):7.1f} ms   {middle:5.2f}x  ({low:.2f} to {high:.2f})")


def _simplified(plain) -> dict:
    """What onnxsim and onnxslim make of the plain export, where they are installed and can."""
    made = {}
    for name, simplify in (
        ("onnxsim", lambda m: __import__("onnxsim").simplify(m)[0]),
        ("onnxslim", lambda m: __import__("onnxslim").slim(m)),
    ):
        try:
            made[name] = simplify(plain)
        except Exception as error:
            print(f"{name}: left out ({type(error).__name__}: {str(error)[:80]})", file=sys.stderr)
    return made


def _runner(graph, asked):
    spec = asked.recipe.inputs[0]
    if onnxio.batch_is_dynamic(graph):
        fixed = type(graph)()
        fixed.CopyFrom(graph)
        onnxio.fix_batch(fixed, 1)
        graph = fixed
    made = session(graph, threads=THREADS, optimised=True)
    feed = {spec.name: np.random.default_rng(0).standard_normal((1, *spec.shape), dtype=np.float32)}
    made.run(None, feed)

    def once() -> float:
        started = time.perf_counter()
        made.run(None, feed)
        return time.perf_counter() - started

    return once


if __name__ == "__main__":
    main(*sys.argv[1:])
