"""A model repository for Triton Inference Server, written from a bundle with tritonclient's own protobuf.

``<model>/config.pbtxt``, ``<model>/<version>/`` and ``<model>/labels.txt``; a version that is there is never
overwritten, the next number is. Beside it the ensemble ``<model>_image`` takes encoded pictures. The server's python
backend runs ``exporter.runtime``; an engine of the ``tensorrt`` backend is served by Triton's own.
"""

from __future__ import annotations

import os
import py_compile
import shutil
import uuid
from pathlib import Path

from exporter import passport
from exporter.errors import UsageError
from exporter.files import unwritable, write_atomically
from exporter.passport import ENGINE, ONNX, Passport

BACKENDS = ("python", "tensorrt_plan", "onnxruntime")
FILES = Path(__file__).parents[1] / "deploy" / "triton"
QUEUE_MICROSECONDS = 0
"""How long a request waits for others to share its batch while nothing runs: those that come while a batch runs are
merged without any waiting."""

PREPARING = 2
"""Processes that decode and resize pictures for the ensemble."""


def write(
    folder: Path, repository: Path, backend: str | None = None, allow_random: bool = False, pictures: bool = True
) -> dict:
    """Write the bundle in ``folder`` as a new version; returns its names, version, backend and path.

    ``backend`` is one of ``BACKENDS``; by default what serves the bundle's engine. Without ``pictures`` there is no
    ensemble that takes files. Raises :class:`UsageError` for a
    bundle that is damaged or has random weights, :class:`CheckFailed` for one that failed a check.
    """
    bundle = passport.read(folder)
    passport.fit_to_serve(bundle, "triton", allow_random)
    backend = backend or ("tensorrt_plan" if bundle.manifest["engine"]["backend"] == "tensorrt" else "python")
    if backend not in BACKENDS:
        raise UsageError(
            f"there is no Triton backend {backend!r}", found=backend, expected=", ".join(BACKENDS), next="SERVER=python"
        )
    name = folder_name(bundle)
    home = repository / name
    try:
        version = _version(home)
        _place(bundle, home / str(version), backend)
        write_atomically(home / "config.pbtxt", config(bundle, name, backend))
        write_atomically(home / "labels.txt", "".join(f"{label}\n" for label in labels(bundle)))
        if pictures:
            _image_models(bundle, repository, name, version)
    except OSError as error:
        raise unwritable(repository, error, "REPO") from None
    ensemble = f"{name}_image" if pictures else None
    return {"model": name, "image_model": ensemble, "version": version, "backend": backend, "path": str(home)}


def folder_name(bundle: Passport) -> str:
    """The model's name on the server: model and precision."""
    from exporter.types import safe_name

    return f"{safe_name(bundle.manifest['model'])}_{bundle.manifest['precision']}"


def labels(bundle: Passport) -> list[str]:
    """A name for each class, the index where none is known."""
    from exporter import labels as known

    names = known.of(bundle.manifest)
    return [names[i] if i < len(names) else str(i) for i in range(bundle.manifest["weights"]["classes"])]


def _version(home: Path) -> int:
    names = [path.name for path in home.iterdir()] if home.is_dir() else []
    numbers = [int(name) for name in names if name.isascii() and name.isdecimal()]
    return max(numbers, default=0) + 1


def _place(bundle: Passport, final: Path, backend: str) -> None:
    """Put a version there in one step: the server never sees half of it."""
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.mkdir()
        if backend == "tensorrt_plan":
            shutil.copyfile(bundle.folder / ENGINE, temporary / "model.plan")
        elif backend == "onnxruntime":
            for name in (ONNX, *bundle.manifest["onnx"]["external_data"]):
                shutil.copyfile(bundle.folder / name, temporary / name)
        else:
            _code("model.py", temporary)
        _carry(bundle, temporary / "bundle", whole=backend == "python")
        os.rename(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _code(name: str, folder: Path) -> None:
    """``model.py`` with its bytecode: if the server's Python wrote that, a server that polls would see a change."""
    shutil.copyfile(FILES / name, folder / "model.py")
    py_compile.compile(
        str(folder / "model.py"), dfile="model.py", invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
    )


def _carry(bundle: Passport, target: Path, whole: bool) -> None:
    """The passport, and the files that it vouches for where they are needed."""
    target.mkdir()
    names = ["manifest.json"]
    if whole:
        names += [ONNX, ENGINE, *bundle.manifest["onnx"]["external_data"]]
    for name in names:
        shutil.copyfile(bundle.folder / name, target / name)


def _image_models(bundle: Passport, repository: Path, name: str, version: int) -> None:
    """The ensemble ``<name>_image`` and its two steps around the model, each with the passport as its version."""
    made = {f"{name}_pixels": pixels_config, f"{name}_answer": answer_config, f"{name}_image": ensemble_config}
    for model, configured in made.items():
        home = repository / model
        temporary, final = home / f".{version}.{uuid.uuid4().hex[:8]}.tmp", home / str(version)
        try:
            temporary.mkdir(parents=True)
            if (step := model.removeprefix(f"{name}_")) != "image":
                _code(f"{step}.py", temporary)
            _carry(bundle, temporary / "bundle", whole=False)
            shutil.rmtree(final, ignore_errors=True)
            os.rename(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        write_atomically(home / "config.pbtxt", configured(bundle, name))


def config(bundle: Passport, name: str, backend: str) -> str:
    """``config.pbtxt`` of the model: names, types and dims of the engine, its batches, a warm-up."""
    pb, text_format = _protobuf()
    manifest = bundle.manifest
    batch = manifest["batch"]
    made = pb.ModelConfig(name=name, max_batch_size=batch["max"])
    if backend == "tensorrt_plan":
        made.platform = "tensorrt_plan"
    else:
        made.backend = backend
    for tensor in manifest["inputs"]:
        made.input.add(name=tensor["name"], data_type=_type(pb, tensor["dtype"]), dims=_dims(tensor))
    for tensor in manifest["outputs"]:
        made.output.add(name=tensor["name"], data_type=_type(pb, tensor["dtype"]), dims=_dims(tensor))
    first = "logits" if "logits" in {t["name"] for t in manifest["outputs"]} else manifest["outputs"][0]["name"]
    next(o for o in made.output if o.name == first).label_filename = "labels.txt"
    if batch["max"] > 1:
        made.dynamic_batching.preferred_batch_size.append(batch["opt"])
        made.dynamic_batching.max_queue_delay_microseconds = QUEUE_MICROSECONDS
    made.instance_group.add(count=1, kind=pb.ModelInstanceGroup.KIND_CPU if backend == "python" else
                            pb.ModelInstanceGroup.KIND_AUTO)  # fmt: skip
    made.version_policy.latest.num_versions = 1
    warmup = made.model_warmup.add(name="zeros", batch_size=batch["min"])
    for tensor in manifest["inputs"]:
        kind = warmup.inputs[tensor["name"]]
        kind.data_type, kind.zero_data = _type(pb, tensor["dtype"]), True
        kind.dims.extend(max(n, 1) for n in _dims(tensor))
    made.parameters["sha256"].string_value = manifest["engine"]["sha256"]
    return text_format.MessageToString(made)


def pixels_config(bundle: Passport, name: str) -> str:
    """``config.pbtxt`` of the ensemble's first step: the bytes of a picture in, pixels and the picture's size out."""
    made, pb, show = _step(f"{name}_pixels", PREPARING)
    spec = bundle.manifest["inputs"][0]
    made.input.add(name="image", data_type=pb.TYPE_UINT8, dims=[-1])
    made.output.add(name="pixels", data_type=_type(pb, spec["dtype"]), dims=[-1, *spec["shape"][1:]])
    made.output.add(name="size", data_type=pb.TYPE_INT32, dims=[2])
    return show(made)


def answer_config(bundle: Passport, name: str) -> str:
    """``config.pbtxt`` of the ensemble's last step: the model's outputs in, JSON out."""
    made, pb, show = _step(f"{name}_answer", 1)
    for tensor in bundle.manifest["outputs"]:
        made.input.add(name=tensor["name"], data_type=_type(pb, tensor["dtype"]), dims=[-1, *tensor["shape"][1:]])
    made.input.add(name="size", data_type=pb.TYPE_INT32, dims=[2])
    made.output.add(name="answer", data_type=pb.TYPE_UINT8, dims=[-1])
    return show(made)


def ensemble_config(bundle: Passport, name: str) -> str:
    """``config.pbtxt`` of the ensemble: the server hands tensors from step to step, the model's batcher merges them.

    It has no batches of its own (pictures differ in length); between steps the model's batch is the first dimension.
    """
    pb, text_format = _protobuf()
    made = pb.ModelConfig(name=f"{name}_image", platform="ensemble")
    made.input.add(name="image", data_type=pb.TYPE_UINT8, dims=[-1])
    made.output.add(name="answer", data_type=pb.TYPE_UINT8, dims=[-1])
    made.version_policy.latest.num_versions = 1
    outputs = {tensor["name"]: f"model_{tensor['name']}" for tensor in bundle.manifest["outputs"]}
    steps = [
        (f"{name}_pixels", {"image": "image"}, {"pixels": "pixels", "size": "size"}),
        (name, {bundle.manifest["inputs"][0]["name"]: "pixels"}, outputs),
        (f"{name}_answer", outputs | {"size": "size"}, {"answer": "answer"}),
    ]
    for model, taken, given in steps:
        step = made.ensemble_scheduling.step.add(model_name=model, model_version=-1)
        step.input_map.update(taken)
        step.output_map.update(given)
    return text_format.MessageToString(made)


def _dims(tensor: dict) -> list[int]:
    """The shape of one row; -1 where an axis is free."""
    return [axis if isinstance(axis, int) else -1 for axis in tensor["shape"][1:]]


def _step(name: str, count: int):
    pb, text_format = _protobuf()
    made = pb.ModelConfig(name=name, backend="python")
    made.instance_group.add(count=count, kind=pb.ModelInstanceGroup.KIND_CPU)
    made.version_policy.latest.num_versions = 1
    return made, pb, text_format.MessageToString


def _type(pb, dtype: str) -> int:
    kinds = {
        "float32": pb.TYPE_FP32,
        "float16": pb.TYPE_FP16,
        "bfloat16": pb.TYPE_BF16,
        "int32": pb.TYPE_INT32,
        "int64": pb.TYPE_INT64,
    }
    return kinds[dtype]


def _protobuf():
    try:
        from google.protobuf import text_format
        from tritonclient.grpc import model_config_pb2
    except ImportError as error:
        raise UsageError(
            "tritonclient is not installed", stage="triton", found=str(error), expected="tritonclient and grpcio",
            next="pip install -e '.[triton]'",
        ) from None  # fmt: skip
    return model_config_pb2, text_format
