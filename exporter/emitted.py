"""A typed graph through the compiler: the engine, and the kernels that it is made of.

A log of an engine with a free batch shows -1 for sizes, so bytes and FLOPs are read from a second build of the same
graph with the profile's optimum as its batch, its static twin.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from exporter import flops, kernels, layers, onnxio
from exporter.backends import tensorrt
from exporter.files import scratch
from exporter.kernels import Kernel
from exporter.types import Request

ENGINE = "model.engine"
PRODUCTS = ("MatMul", "Gemm", "Einsum")
PASSING = (
    *("Cast", "Identity", "Dropout", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Expand", "Slice", "Split"),
    *("Gather", "Where", "QuantizeLinear", "DequantizeLinear"),
)
"""What may lie between a Softmax and the product that it weighs."""


@dataclass(frozen=True)
class Emitted:
    """``engine``: the kernels of ``model.engine``; ``sized``: those of its static twin, with bytes and FLOPs known.

    ``synchronisations``: signals and waits between the engine's streams; ``host_numbers``: sizes that the host works
    out between launches. Both are 0 where the backend does not list them.
    """

    engine: list[Kernel]
    sized: list[Kernel]
    builds: dict[str, tensorrt.Built]
    synchronisations: int
    host_numbers: int


def emit(model: onnx.ModelProto, path: Path, request: Request, folder: Path) -> Emitted:
    """Compile the typed ``model``, which is the file ``path``, into ``folder/model.engine`` and nothing else there."""
    batch = request.batch
    jobs = {"engine": _job(path, folder, "model", (batch.min, batch.opt, batch.max), request)}
    if not batch.static:
        jobs["static_twin"] = _static_twin(model, folder, request)
    built = dict(zip(jobs, tensorrt.build(list(jobs.values()), request.recipe.name), strict=True))
    lists = [_layers(Path(job.log)) for job in jobs.values()]
    idle = (0, 0)
    if request.backend == "tensorrt-rtx":
        log = Path(jobs["engine"].log).read_text()
        idle = layers.synchronisations(log), layers.host_numbers(log)
    for left in (file for job in jobs.values() for file in folder.glob(f"{Path(job.log).stem}.*")):
        if left.name != ENGINE and left != path:
            left.unlink()
    counts = flops.per_node(model, batch.opt)
    engine, sized = (kernels.with_flops(found, counts) for found in (lists[0], lists[-1]))
    return Emitted(engine, sized, built, *idle)


def weigh(model: onnx.ModelProto, request: Request) -> Emitted:
    """The same where only the kernels are wanted: no file is left."""
    with scratch(request.out) as folder:
        path = folder / "graph.onnx"
        onnxio.save(model, path)
        return emit(model, path, request, folder)


def _layers(log: Path) -> list[Kernel]:
    """The kernels of a build: from the engine inspector where the backend has written its answer, else from the log."""
    inspected = log.with_suffix(tensorrt.INSPECTED)
    return layers.from_inspector(inspected.read_text()) if inspected.exists() else layers.parse(log.read_text())


def _job(path: Path, folder: Path, name: str, batch: tuple[int, int, int], request: Request) -> tensorrt.Job:
    spec = request.recipe.inputs[0]
    return tensorrt.Job(
        onnx=str(path.resolve()),
        engine=str(folder / f"{name}.engine"),
        log=str(folder / f"{name}.log"),
        backend=request.backend,
        targets=request.targets,
        batch=batch,
        input_name=spec.name,
        shape=spec.shape,
        tf32=request.precision.tf32,
    )


def _static_twin(model: onnx.ModelProto, folder: Path, request: Request) -> tensorrt.Job:
    opt = request.batch.opt
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    onnxio.fix_batch(twin, opt)
    onnxio.save(twin, folder / "twin.onnx")
    return _job(folder / "twin.onnx", folder, "twin", (opt, opt, opt), request)


def softmaxes(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes that stand for an attention each: a Softmax that weighs a product's rows, or Attention.

    A Softmax that is only multiplied with, place by place (CycleMLP weighs three branches so), is none.
    """
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def weighs(node: onnx.NodeProto) -> bool:
        after = [reader for name in node.output for reader in readers.get(name, ())]
        return any(n.op_type in PRODUCTS or (n.op_type in PASSING and weighs(n)) for n in after)

    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Attention" or (node.op_type == "Softmax" and weighs(node))
    ]
