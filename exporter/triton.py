"""A model repository for Triton Inference Server, written from a bundle with tritonclient's own protobuf.

``<model>/config.pbtxt``, ``<model>/<version>/`` and ``<model>/labels.txt``; a version that is there is never
overwritten, the next number is. Beside it ``<model>_image`` takes encoded pictures. The server's python backend runs
``exporter.runtime``; an engine of the ``tensorrt`` backend is served by Triton's own.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from exporter import passport
from exporter.errors import UsageError
from exporter.files import unwritable, write_atomically
from exporter.passport import ENGINE, ONNX, Passport

BACKENDS = ("python", "tensorrt_plan", "onnxruntime")
FILES = Path(__file__).parents[1] / "deploy" / "triton"
QUEUE_MICROSECONDS = 500
"""How long a request may wait for others to share its batch."""


def write(folder: Path, repository: Path, backend: str | None = None, allow_random: bool = False) -> dict:
    """Write the bundle in ``folder`` as a new version; returns its names, version, backend and path.

    ``backend`` is one of ``BACKENDS``; by default what serves the bundle's engine. Raises :class:`UsageError` for a
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
        _image_model(bundle, repository, name, version)
    except OSError as error:
        raise unwritable(repository, error) from None
    return {"model": name, "image_model": f"{name}_image", "version": version, "backend": backend, "path": str(home)}


def folder_name(bundle: Passport) -> str:
    """The model's name on the server: model and precision."""
    from exporter.types import safe_name

    return f"{safe_name(bundle.manifest['model'])}_{bundle.manifest['precision']}"


def labels(bundle: Passport) -> list[str]:
    """A name for each class, the index where none is known."""
    from exporter.reporting import labels as known

    names = known.of(bundle.manifest)
    return [names[i] if i < len(names) else str(i) for i in range(bundle.manifest["weights"]["classes"])]


def _version(home: Path) -> int:
    numbers = [int(path.name) for path in home.iterdir() if path.name.isdigit()] if home.is_dir() else []
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
            shutil.copyfile(FILES / "model.py", temporary / "model.py")
        _carry(bundle, temporary / "bundle", whole=backend == "python")
        os.rename(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _carry(bundle: Passport, target: Path, whole: bool) -> None:
    """The passport, and the files that it vouches for where they are needed."""
    target.mkdir()
    names = ["manifest.json"]
    if whole:
        names += [ONNX, ENGINE, *bundle.manifest["onnx"]["external_data"]]
    for name in names:
        shutil.copyfile(bundle.folder / name, target / name)


def _image_model(bundle: Passport, repository: Path, name: str, version: int) -> None:
    home = repository / f"{name}_image"
    temporary, final = home / f".{version}.{uuid.uuid4().hex[:8]}.tmp", home / str(version)
    try:
        temporary.mkdir(parents=True)
        shutil.copyfile(FILES / "image.py", temporary / "model.py")
        _carry(bundle, temporary / "bundle", whole=False)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    write_atomically(home / "config.pbtxt", image_config(f"{name}_image"))


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


def image_config(name: str) -> str:
    """``config.pbtxt`` of the model that takes an encoded picture: its bytes in, JSON out."""
    pb, text_format = _protobuf()
    made = pb.ModelConfig(name=name, backend="python")
    made.input.add(name="image", data_type=pb.TYPE_UINT8, dims=[-1])
    made.output.add(name="answer", data_type=pb.TYPE_UINT8, dims=[-1])
    made.instance_group.add(count=1, kind=pb.ModelInstanceGroup.KIND_CPU)
    made.version_policy.latest.num_versions = 1
    return text_format.MessageToString(made)


def _dims(tensor: dict) -> list[int]:
    """The shape of one row; -1 where an axis is free."""
    return [axis if isinstance(axis, int) else -1 for axis in tensor["shape"][1:]]


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
