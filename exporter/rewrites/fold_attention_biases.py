"""Attention without biases on keys and values: both are exact to move away.

softmax(Q (K + 1 b)^T + B) = softmax(Q K^T + B): a key's bias adds the same number to all scores of a query, and a
softmax does not see that. softmax(S) (V + 1 b) = softmax(S) V + 1 b: the rows of a softmax add up to one, so a value's
bias comes out as it went in, and the next linear layer's bias takes it: b' = b + b_v W.

Before: K and V as Linears with bias. After: K and V as products, the output projection with another bias.

Matches: biases that were moved away. Refused: a key's or value's layer, or what is moved out of it, that something
else reads, too, be it the queries or a length that the keys are divided by; a value's bias where no linear layer
follows. A bias of zeros goes in any case.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from exporter import attention, linear
from exporter.emit import replace
from exporter.moves import Maps, is_move, scalar_factor
from exporter.surgery import Shapes, tidy


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of biases that were moved away."""
    tidy(graph)
    maps, matches = Maps(shapes), 0
    for found in attention.find(graph, shapes)[0]:
        matches += _drop(graph, found) + _carry(graph, found, maps)
    tidy(graph)
    return matches


def _layer(graph: gs.Graph, operand: attention.Operand, product: gs.Node) -> linear.Linear | None:
    """The operand's own linear layer with a bias; None where anything but the product reads of it."""
    layer = linear.of(operand.source)
    if layer is None or layer.bias is None or layer.node.op != "MatMul":
        return None
    own = operand.columns.size == layer.weight.shape[1] and _readers(graph, layer.output) == {(id(product), 1)}
    return layer if own or not layer.bias.any() else None


def _readers(graph: gs.Graph, tensor: gs.Tensor) -> set[tuple[int, int]]:
    """(id of the node, input) of each operator that reads a tensor, or what movement and numbers make of it."""
    found = {(0, 0)} if any(tensor is t for t in graph.outputs) else set()
    for node in tensor.outputs:
        if is_move(node) or scalar_factor(node):
            found = found.union(*(_readers(graph, made) for made in node.outputs))
        else:
            found |= {(id(node), i) for i, t in enumerate(node.inputs) if t is tensor}
    return found


def _drop(graph: gs.Graph, found: attention.Attention) -> int:
    layer = _layer(graph, found.k, found.product)
    if layer is not None:
        replace(graph, layer.output, layer.node.outputs[0])
    return int(layer is not None)


def _carry(graph: gs.Graph, found: attention.Attention, maps: Maps) -> int:
    layer = _layer(graph, found.v, found.values)
    if layer is None:
        return 0
    if layer.bias.any():
        after = _layer_after(graph, _moved(graph, found.result, maps))
        if after is None:
            return 0
        linear.add(graph, after, layer.bias[found.v.columns.reshape(-1)].astype(np.float64) @ after.weight)
    replace(graph, layer.output, layer.node.outputs[0])
    return 1


def _moved(graph: gs.Graph, tensor: gs.Tensor, maps: Maps) -> gs.Tensor:
    """``tensor``, or what movement of whole rows makes of it for its one reader."""
    while len(tensor.outputs) == 1 and not any(tensor is t for t in graph.outputs):
        node = tensor.outputs[0]
        if node.op != "Identity" and not (is_move(node) and node.op != "Concat" and maps.keeps_columns(node)):
            break
        tensor = node.outputs[0]
    return tensor


def _layer_after(graph: gs.Graph, tensor: gs.Tensor) -> linear.Linear | None:
    """The linear layer, its bias included, that alone reads ``tensor``."""
    outputs = {id(t) for t in graph.outputs}
    reader = tensor.outputs[0] if len(tensor.outputs) == 1 and id(tensor) not in outputs else None
    found = None if reader is None else linear.made_by(graph, reader)
    return found if found is not None and found.input is tensor else None
