"""A 16-bit graph made FP32 again, for runtimes that compute in no 16-bit type; 8-bit products stay what they are."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

NARROW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def widen(model: onnx.ModelProto) -> int:
    """Give every 16-bit float of ``model`` the type FP32, in place; returns how many tensors and casts there were.

    A cast to 16 bits becomes one to FP32: nothing is rounded any more, so the result is that of the mathematics.
    """
    graph, changed = model.graph, 0
    for tensor in graph.initializer:
        changed += _widen(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i in NARROW:
                attribute.i = TensorProto.FLOAT
                changed += 1
            if attribute.HasField("t"):
                changed += _widen(attribute.t)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in NARROW:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
            changed += 1
    del graph.value_info[:]
    return changed


def _widen(tensor: TensorProto) -> bool:
    if tensor.data_type not in NARROW:
        return False
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    return True
