"""Every tensor's type and shape at a given batch, shape arithmetic evaluated.

ONNX's own inference propagates few integer operators, so a Reshape whose target is computed from ``Shape`` stays
unknown to it. What it leaves open is followed node by node here: each is inferred in turn
(``onnx.shape_inference.infer_node_outputs``), and an integer node whose inputs are known is run with ONNX's reference
implementation.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from exporter import onnxio

LIKE_THEIR_INPUT = ("GroupNormalization",)
"""Operators whose output is like their input, and of which ONNX's inference says nothing."""

SMALL = 4096
"""Elements up to which an integer tensor is followed by value."""


@dataclass(frozen=True)
class Inferred:
    """What is known of a graph's tensors, by name."""

    types: dict[str, int]
    """Element types as in ``onnx.TensorProto``; 0 where unknown."""
    shapes: dict[str, tuple[int, ...] | None]
    """Unknown axes are -1, an unknown rank is None."""
    values: dict[str, np.ndarray]
    """Small integer tensors whose value follows from the shapes."""


def infer(model: onnx.ModelProto, batch: int | None = None) -> Inferred:
    """Follow types, shapes and integer values through ``model``; ``batch`` fixes axis 0 of the inputs first."""
    shell = onnxio.skeleton(model)
    if batch is not None:
        onnxio.fix_batch(shell, batch)
    types: dict[str, onnx.TypeProto] = {v.name: v.type for v in shell.graph.input}
    values: dict[str, np.ndarray] = {}
    for tensor in shell.graph.initializer:
        types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        values[tensor.name] = numpy_helper.to_array(tensor)
    opsets = {o.domain: o.version for o in shell.opset_import}
    types |= _at_once(shell)
    for node in shell.graph.node:
        if not all(name in types for name in node.output):
            _infer_node(node, types, values, shell)
        _evaluate(node, types, values, opsets)
    return Inferred(
        {name: kind.tensor_type.elem_type for name, kind in types.items()},
        {name: _shape(kind) for name, kind in types.items()},
        values,
    )


def _at_once(shell: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """What ONNX's inference of the whole graph knows to the last axis: all of a graph without shape arithmetic."""
    del shell.graph.value_info[:]
    try:
        whole = onnx.shape_inference.infer_shapes(shell, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return {}
    return {v.name: v.type for v in whole.graph.value_info if -1 not in (_shape(v.type) or (-1,))}


def _shape(kind: onnx.TypeProto) -> tuple[int, ...] | None:
    if not kind.tensor_type.HasField("shape"):
        return None
    return tuple([d.dim_value if d.HasField("dim_value") else -1 for d in kind.tensor_type.shape.dim])


def _evaluate(node: onnx.NodeProto, types: dict, values: dict, opsets: dict[str, int]) -> None:
    """Compute a node whose integer inputs are known by value, unless its result is known to be large."""
    if node.op_type == "Shape":
        shape = _shape(types[node.input[0]]) if node.input[0] in types else None
        if shape is None or -1 in shape:
            return
        bounds = {a.name: a.i for a in node.attribute}
        result = [np.array(shape[bounds.get("start", 0) : bounds.get("end", len(shape))], dtype=np.int64)]
    else:
        inputs = [name for name in node.input if name]
        if (node.op_type != "Constant" and not inputs) or not all(
            name in values and values[name].size <= SMALL for name in inputs
        ):
            return
        if inputs and not any(np.issubdtype(values[name].dtype, np.integer) for name in inputs):
            return
        if any(prod(_shape(types[name]) or ()) > SMALL for name in node.output if name):
            return
        try:
            result = ReferenceEvaluator(node, opsets=opsets).run(None, {name: values[name] for name in inputs})
        except Exception:  # an operator that the reference does not have: its shape is inferred, not its value
            return
    for name, value in zip(node.output, result, strict=True):
        array = np.asarray(value)
        if array.size <= SMALL:
            values[name] = array
        types[name] = helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def _infer_node(node: onnx.NodeProto, types: dict, values: dict, shell: onnx.ModelProto) -> None:
    domain = "" if node.domain == "ai.onnx" else node.domain
    version = next((o.version for o in shell.opset_import if o.domain in (node.domain, domain)), 0)
    try:
        schema = onnx.defs.get_schema(node.op_type, version, domain)
        known = {name: types[name] for name in node.input if name in types}
        data = {name: numpy_helper.from_array(values[name]) for name in node.input if name in values}
        types.update(
            onnx.shape_inference.infer_node_outputs(
                schema, node, known, data, opset_imports=list(shell.opset_import), ir_version=shell.ir_version
            )
        )
    except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError, ValueError):  # also an input of no known type
        pass
    if node.op_type in LIKE_THEIR_INPUT and node.input[0] in types:
        types[node.output[0]] = types[node.input[0]]
    for name in node.output:
        types.setdefault(name, helper.make_tensor_type_proto(TensorProto.UNDEFINED, None))
