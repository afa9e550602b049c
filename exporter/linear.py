"""Linear layers in a graph, however they are written: MatMul, MatMul and Add, Gemm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from exporter.emit import Emitter
from exporter.moves import Maps, is_move
from exporter.surgery import constant


@dataclass(frozen=True)
class Linear:
    """``output = input @ weight + bias`` with ``weight`` (in, out) and ``bias`` (out,) or None."""

    input: gs.Tensor
    weight: np.ndarray
    bias: np.ndarray | None
    node: gs.Node
    """The node that multiplies."""
    output: gs.Tensor

    def columns(self, chosen: np.ndarray, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray | None]:
        """(weight, bias) of the outputs ``chosen``, multiplied by ``scale``."""
        number = np.float32(scale)
        taken = _neighbours(chosen, self.weight.shape[1]) or chosen  # columns one by one are slow
        return self.weight[:, taken] * number, None if self.bias is None else self.bias[taken] * number


def _neighbours(chosen: np.ndarray, width: int) -> slice | None:
    """The slice that takes these of so many columns, None where they do not follow one another."""
    if not len(chosen) or chosen[0] < 0 or chosen[-1] >= width:
        return None
    straight = np.array_equal(chosen, np.arange(chosen[0], chosen[0] + len(chosen)))
    return slice(int(chosen[0]), int(chosen[-1]) + 1) if straight else None


def of(tensor: gs.Tensor) -> Linear | None:
    """The linear layer whose result ``tensor`` is."""
    node = tensor.inputs[0] if tensor.inputs else None
    if node is None:
        return None
    if node.op == "Add":
        for i in (0, 1):
            bias, made = constant(node.inputs[i]), node.inputs[1 - i]
            if bias is None or not made.inputs or made.inputs[0].op != "MatMul":
                continue
            found = _product(made)
            alone = found is not None and len(made.outputs) == 1
            if alone and bias.ndim and bias.size == bias.shape[-1] == found.weight.shape[1]:
                return Linear(found.input, found.weight, bias.reshape(-1), found.node, tensor)
        return None
    return _product(tensor) if node.op == "MatMul" else _gemm(tensor) if node.op == "Gemm" else None


def _product(tensor: gs.Tensor) -> Linear | None:
    node = tensor.inputs[0]
    weight = constant(node.inputs[1])
    if weight is None or weight.ndim != 2 or constant(node.inputs[0]) is not None:
        return None
    return Linear(node.inputs[0], weight, None, node, tensor)


def _gemm(tensor: gs.Tensor) -> Linear | None:
    node = tensor.inputs[0]
    weight = constant(node.inputs[1])
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    plain = node.attrs.get("alpha", 1.0) == 1.0 and node.attrs.get("beta", 1.0) == 1.0 and not node.attrs.get("transA")
    if weight is None or not plain or (len(node.inputs) > 2 and bias is None):
        return None
    weight = weight.T if node.attrs.get("transB") else weight
    if bias is not None:
        if bias.size != 1 and bias.size != bias.shape[-1]:
            return None
        bias = np.broadcast_to(bias.reshape(-1), weight.shape[1:])
    return Linear(node.inputs[0], weight, bias, node, tensor)


def made_by(graph: gs.Graph, node: gs.Node) -> Linear | None:
    """The linear layer, its bias included, whose product ``node`` is."""
    if node.op not in ("MatMul", "Gemm"):
        return None
    made, outputs = node.outputs[0], {id(t) for t in graph.outputs}
    biased = len(made.outputs) == 1 and made.outputs[0].op == "Add" and id(made) not in outputs
    ends = [made.outputs[0].outputs[0], made] if biased else [made]
    return next((found for found in map(of, ends) if found is not None and found.node is node), None)


def products(graph: gs.Graph, tensor: gs.Tensor, maps: Maps) -> list[gs.Node]:
    """The MatMuls with a weight that read ``tensor`` as rows, through movement of whole rows; [] if others do."""
    if any(tensor is t for t in graph.outputs):
        return []
    found = []
    for node in tensor.outputs:
        if node.op == "Identity" or (is_move(node) and node.op != "Concat" and maps.keeps_columns(node)):
            more = [products(graph, made, maps) for made in node.outputs]
            if not all(more):
                return []
            found += [n for nodes in more for n in nodes]
        elif node.op == "MatMul" and node.inputs[0] is tensor and constant(node.inputs[1]) is not None:
            found.append(node)
        else:
            return []
    return list({id(n): n for n in found}.values())


def add(graph: gs.Graph, layer: Linear, carried: np.ndarray) -> None:
    """Add (out,) to a layer's bias; a layer without one gets an Add that makes its output."""
    if layer.bias is None:
        product = gs.Variable(f"{layer.output.name}/product", layer.output.dtype)
        layer.node.outputs = [product]
        made = Emitter(graph, layer.node).op("Add", product, carried.astype(np.float32))
        made.inputs[0].outputs = [layer.output]
        return
    adder = layer.output.inputs[0]
    index = 2 if adder.op == "Gemm" else next(i for i, t in enumerate(adder.inputs) if constant(t) is not None)
    adder.inputs[index] = gs.Constant(f"{adder.name}/carried", (layer.bias + carried).astype(np.float32))
