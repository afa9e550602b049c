"""ONNX files and protos: reading, writing, skeletons without weights.

A protobuf message ends at 2 GiB, so a larger model keeps its weights beside it in ``<name>.data``
(https://onnx.ai/onnx/repo-docs/ExternalData.html). Files are written so that equal models are equal bytes.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SINGLE_FILE_LIMIT = 1_900_000_000
"""Bytes of weights above which they go to a file of their own."""

LARGE = 1024
"""Bytes above which an initializer is a weight and not a shape, an axis or a scalar."""


def load(path: Path) -> onnx.ModelProto:
    """The model with all its weights in memory, wherever the file keeps them."""
    return onnx.load(str(path))


TWO_IN_A_BYTE = (TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1)


def nbytes(tensor: TensorProto) -> int:
    """The size of a tensor's values, from its shape and type: reading ``raw_data`` would copy them."""
    count = prod(tensor.dims)
    if tensor.data_type in TWO_IN_A_BYTE:
        return (count + 1) // 2
    return count * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def save(model: onnx.ModelProto, path: Path) -> list[Path]:
    """Write ``model`` to ``path``; over the limit the weights go to ``path`` + ``.data``. Returns the files."""
    if sum(map(nbytes, model.graph.initializer)) <= SINGLE_FILE_LIMIT:
        path.write_bytes(model.SerializeToString(deterministic=True))
        return [path]
    beside = path.with_name(path.name + ".data")
    beside.unlink(missing_ok=True)  # onnx appends to what is there
    shell = _shell(model)
    offset = 0
    with open(beside, "wb") as f:
        for tensor in model.graph.initializer:
            if nbytes(tensor) <= LARGE:
                shell.graph.initializer.append(tensor)
                continue
            raw = tensor.raw_data or numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data
            shell.graph.initializer.append(outside(tensor, beside.name, offset, len(raw)))
            offset += f.write(raw)
    path.write_bytes(shell.SerializeToString(deterministic=True))
    return [path, beside]


def outside(tensor: TensorProto, location: str, offset: int, length: int) -> TensorProto:
    """A tensor of the same name, type and shape whose values lie in another file."""
    made = TensorProto(
        name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, data_location=TensorProto.EXTERNAL
    )
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        made.external_data.add(key=key, value=value)
    return made


def _shell(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` without initializers."""
    shell = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _copy(shell, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _copy(shell.graph, field.name, value)
    return shell


def _copy(message, name: str, value) -> None:
    if hasattr(value, "extend"):
        getattr(message, name).extend(value)
    else:
        setattr(message, name, value)


def detach(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A copy of ``model`` whose weights are external, and the weights by name."""
    shell = _shell(model)
    arrays: dict[str, np.ndarray] = {}
    for tensor in model.graph.initializer:
        if nbytes(tensor) > LARGE:
            arrays[tensor.name] = numpy_helper.to_array(tensor)
            shell.graph.initializer.append(outside(tensor, "weights", 0, nbytes(tensor)))
        else:
            shell.graph.initializer.append(tensor)
    return shell, arrays


def read_names(graph: onnx.GraphProto) -> set[str]:
    """Every name that a node of the graph, or of a graph inside of a node, reads, and the outputs."""
    found = {value.name for value in graph.output}
    for node in graph.node:
        found.update(node.input)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") or attribute.graphs else ():
                found |= read_names(inner)
    return found


def skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` in which the weights are typed inputs: the graph without its megabytes."""
    shell = _shell(model)
    inputs = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if nbytes(tensor) > LARGE:
            if tensor.name in inputs:
                continue
            shell.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            shell.graph.initializer.append(tensor)
    return shell


def check(model: onnx.ModelProto) -> None:
    """The ONNX checker with strict type and shape inference, on a model of any size."""
    shell = skeleton(model)
    del shell.graph.value_info[:]
    onnx.checker.check_model(shell, full_check=True)


def fix_batch(model: onnx.ModelProto, batch: int) -> None:
    """Make axis 0 of every graph input that is symbolic the number ``batch``, in place."""
    weights = {t.name for t in model.graph.initializer}
    symbols = set()
    for value in model.graph.input:
        if value.name in weights:
            continue
        for axis in value.type.tensor_type.shape.dim[:1]:
            if axis.dim_param:
                symbols.add(axis.dim_param)
                axis.dim_value = batch
    for value in (*model.graph.output, *model.graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in symbols:
                axis.dim_value = batch


def batch_is_dynamic(model: onnx.ModelProto) -> bool:
    """Whether axis 0 of the first input is symbolic."""
    return bool(model.graph.input[0].type.tensor_type.shape.dim[0].dim_param)


def opset(model: onnx.ModelProto) -> int:
    """The version of the standard operator set that the model imports."""
    return next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))


def describe(value: onnx.ValueInfoProto) -> dict:
    """A graph input or output as the manifest has it: name, numpy type name, shape with names for free axes."""
    kind = value.type.tensor_type
    shape = [axis.dim_param or (axis.dim_value if axis.HasField("dim_value") else None) for axis in kind.shape.dim]
    return {"name": value.name, "dtype": helper.tensor_dtype_to_np_dtype(kind.elem_type).name, "shape": shape}
