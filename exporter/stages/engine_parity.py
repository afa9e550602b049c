"""``model.onnx`` against ``model.engine`` on this machine's GPU; where there is none, it says so and why."""

from __future__ import annotations

from pathlib import Path

from exporter.backends import tensorrt
from exporter.build import Build
from exporter.stages import raw_parity
from exporter.types import Request

NAME = "engine_parity"
NEEDS = ("typed_parity", "compile")
CODE = ("exporter.backends.tensorrt", *raw_parity.CODE)
PROOF = True


def parts(build: Build) -> dict:
    return {
        "device": tensorrt.cuda_device(),
        "tolerance": vars(raw_parity.tolerance(build)),
        "batch": str(build.request.batch),
        "io": build.request.io,
    }


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    from exporter import parity

    device, why = tensorrt.cuda_device()
    if device is not None and device not in build.request.targets:
        device, why = None, f"the engine is for {', '.join(build.request.targets)}, the GPU here is {device}"
    if device is None:
        return {"rungs": {"typed/engine": parity.Rung(parity.NOT_RUN, why).as_dict()}}, {}
    feeds, _ = raw_parity.planned(build, noise=not build.request.precision.quantized)
    expected = raw_parity.answers(build, "typed_parity", "typed")
    build.note(f"the engine on this machine's {device}")
    runner = tensorrt.runner(build.file("compile", "model.engine"), build.request.backend)
    found = parity.run(runner, [typed(feed, build) for feed in feeds])
    tolerance = raw_parity.tolerance(build)
    return {
        "rungs": {
            "typed/engine": parity.compare(build.recipe, tolerance, expected, found, len(build.samples.names)).as_dict()
        }
    }, {}


def typed(feed: dict, build: Build) -> dict:
    return of_type(feed, build.request)


def of_type(feed: dict, request: Request) -> dict:
    """The feed as torch tensors of the engine's input type; numpy has no bfloat16."""
    import torch

    kind = request.precision.element_type if request.io != "fp32" else "float32"
    return {name: torch.from_numpy(value).to(getattr(torch, kind)) for name, value in feed.items()}


summary = raw_parity.summary
