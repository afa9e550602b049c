"""What the numerics twin costs: the typed graph with its rounding written out, beside the FP32 graph it came from.

``python benchmarks/twin.py [model ...]`` runs both in ONNX Runtime without its fusions, eight images, all cores, in
turns, as the parity stages do, and prints medians and the ratio pair by pair with its quartiles. Not a timed test.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time

import numpy as np

from exporter import numerics, pipeline, request
from exporter.backends.onnxruntime import session
from exporter.progress import Progress
from exporter.stages import form, typed

MODELS = ("swin_t", "vit_b", "mixer_b")
PRECISIONS = ("fp16", "bf16")
IMAGES = 8
ROUNDS = 8


def main(*models: str) -> None:
    for model in models or MODELS:
        with tempfile.TemporaryDirectory() as out:
            words = {"weights": "random", "out": out, "batch": str(IMAGES)}
            asked = {name: request.parse(model, name, **words) for name in PRECISIONS}
            stages = (*pipeline.CANONICAL, form)
            graph = pipeline.prepare(asked["fp16"], Progress(quiet=True), stages).model("form", form.FILE)
            twins = {name: numerics.twin(typed.finish(graph, one).model) for name, one in asked.items()}
        recipe = asked["fp16"].recipe
        pixels = np.random.default_rng(0).standard_normal((IMAGES, *recipe.inputs[0].shape), dtype=np.float32)
        runs = {name: session(made) for name, made in ({"fp32": graph} | twins).items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(ROUNDS + 1):
            for name, made in runs.items():
                started = time.perf_counter()
                made.run(None, {recipe.inputs[0].name: pixels})
                if turn:  # the first warms up
                    times[name].append(time.perf_counter() - started)
        print(f"{model}, {IMAGES} images, {ROUNDS} rounds in turns")
        for name, measured in times.items():
            ratios = sorted(b / a for a, b in zip(times["fp32"], measured, strict=True))
            low, middle, high = (ratios[int(share * (len(ratios) - 1))] for share in (0.25, 0.5, 0.75))
            print(f"  {name:<5} {statistics.median(measured):6.2f} s   {middle:5.2f}x  ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main(*sys.argv[1:])
