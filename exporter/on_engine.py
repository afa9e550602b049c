"""A typed graph under examination as an engine computes it: on this machine's GPU, with any of its tensors as outputs.

Outputs end kernels, so the compiler fuses less here than in ``model.engine``: a fault that only a fusion makes shows in
the parity of the engine and not in any unit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from exporter import onnxio
from exporter.backends import tensorrt
from exporter.examined import Examined
from exporter.types import Request

Engine = Callable[[np.ndarray], dict[str, np.ndarray]]
"""(N, 3, H, W) float32 -> every output by name, float32."""


class OnEngine(Examined):
    """``device`` is the GPU's compute capability; ``compiled(model, request, device)`` makes the engine of a graph."""

    def __init__(self, model: onnx.ModelProto, request: Request, device: str, compiled=None):
        super().__init__(model, request.precision.tf32)
        self.typed, self.request, self.device = model, request, device
        self._compiled = compiled or compile_and_load

    def runner(self, tensors: Iterable[str], rounded: bool = True) -> Engine:
        """``run(pixels)`` of an engine of its own; hardware always rounds."""
        marked = onnx.ModelProto()
        marked.CopyFrom(self.typed)
        ranks = {name: len(shape) for name, shape in self.sizes(self.request.batch.opt).items()}
        for name in dict.fromkeys(tensors):
            if name not in self.outputs:
                axes = [None] * ranks[name]
                marked.graph.output.append(helper.make_tensor_value_info(name, self.kinds[name], axes))
        return self._compiled(marked, self.request, self.device)


def compile_and_load(model: onnx.ModelProto, request: Request, device: str) -> Engine:
    """Compile ``model`` for the GPU that is here; the engine is on the GPU while a batch runs."""
    from exporter import parity
    from exporter.stages import engine_parity

    batch, folder = request.batch, tempfile.TemporaryDirectory()  # it goes with the last reference to ``run``
    path, engine, log = (str(Path(folder.name, f"marked.{end}")) for end in ("onnx", "engine", "log"))
    onnxio.save(model, Path(path))
    job = tensorrt.Job(
        path, engine, log, request.backend, (device,), (batch.min, batch.opt, batch.max), request.recipe.input_name,
        request.recipe.inputs[0].shape, request.precision.tf32,
    )  # fmt: skip
    tensorrt.build([job], request.recipe.name)

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        with tensorrt.runner(Path(folder.name, "marked.engine"), request.backend) as runner:
            found = runner.infer(engine_parity.of_type({request.recipe.input_name: pixels}, request))
            return {name: parity.as_float32(value) for name, value in found.items()}

    return run
