"""Graphs without their megabytes: weights are handed from graph to graph as arrays, never through protobuf.

onnx-graphsurgeon copies every weight when it exports a graph, several times a model of hundreds of megabytes. Here a
large constant is exported as a reference to external data that is not there, and its array travels beside the graph.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import helper
from onnx_graphsurgeon.ir.tensor import LazyValues

from exporter import onnxio

Arrays = dict[str, np.ndarray]


class Held(LazyValues):
    """An array that stands for a constant and is exported as a reference to it."""

    def __init__(self, name: str, array: np.ndarray):
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        super().__init__(onnxio.outside(onnx.TensorProto(name=name, data_type=kind, dims=array.shape), "weights", 0, 0))
        self.array = array

    def load(self) -> np.ndarray:
        return self.array


def imported(shell: onnx.ModelProto, arrays: Arrays) -> gs.Graph:
    """A graph to edit, whose large constants are ``arrays``."""
    graph = gs.import_onnx(shell)
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Constant) and tensor.name in arrays:
            tensor.values = Held(tensor.name, arrays[tensor.name])
    return graph


def exported(graph: gs.Graph, like: onnx.ModelProto) -> tuple[onnx.ModelProto, Arrays]:
    """(the graph with the header of ``like`` and no large constants, those constants by name)."""
    arrays: Arrays = {}
    for tensor in graph.tensors().values():
        if not isinstance(tensor, gs.Constant):
            continue
        array = tensor._values.array if isinstance(tensor._values, Held) else tensor._values
        if isinstance(array, np.ndarray) and array.nbytes > onnxio.LARGE:
            arrays[tensor.name] = array
            tensor.values, tensor.data_location = Held(tensor.name, array), None
    shell = gs.export_onnx(graph, do_type_check=False)
    shell.producer_name, shell.producer_version = like.producer_name, like.producer_version
    shell.ir_version = max(like.ir_version, helper.find_min_ir_version_for(shell.opset_import))
    return shell, arrays


def whole(shell: onnx.ModelProto, arrays: Arrays) -> onnx.ModelProto:
    """The model with its weights inside again."""
    model = onnx.ModelProto()
    model.CopyFrom(shell)
    for tensor in model.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(onnx.numpy_helper.from_array(arrays[tensor.name], tensor.name))
    return model
