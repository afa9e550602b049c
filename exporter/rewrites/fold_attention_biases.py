"""Attention without biases on keys and values: both are exact to move away.

softmax(Q (K + 1 b)^T + B) = softmax(Q K^T + B): a key's bias adds the same number to all scores of a query, and a
softmax does not see that. softmax(S) (V + 1 b) = softmax(S) V + 1 b: the rows of a softmax add up to one, so a value's
bias comes out as it went in, and the next linear layer's bias takes it: b' = b + b_v W.

Before: K and V as Linears with bias. After: K and V as products, the output projection with another bias.

Matches: biases that were moved away. Refused: a key's or value's layer that something else reads, too; a value's bias
where no linear layer follows.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from exporter import attention, linear
from exporter.emit import Emitter, replace
from exporter.surgery import Shapes, constant


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of biases that were moved away."""
    graph.cleanup().toposort()
    matches = 0
    for found in attention.find(graph, shapes)[0]:
        matches += _drop(graph, found.k) + _carry(graph, found)
    graph.cleanup().toposort()
    return matches


def _layer(operand: attention.Operand) -> linear.Linear | None:
    """The operand's own linear layer with a bias; None where another operand or reader shares it."""
    layer = linear.of(operand.source)
    own = layer is not None and len(operand.source.outputs) == 1 and operand.columns.size == layer.weight.shape[1]
    return layer if own and layer.bias is not None and layer.node.op == "MatMul" else None


def _drop(graph: gs.Graph, operand: attention.Operand) -> int:
    layer = _layer(operand)
    if layer is not None:
        replace(graph, layer.output, layer.node.outputs[0])
    return int(layer is not None)


def _carry(graph: gs.Graph, found: attention.Attention) -> int:
    layer = _layer(found.v)
    reader = found.result.outputs[0] if len(found.result.outputs) == 1 else None
    after = _layer_of(reader, found.result) if layer is not None else None
    if after is None:
        return 0
    carried = (layer.bias[found.v.columns.reshape(-1)].astype(np.float64) @ after.weight).astype(np.float32)
    if after.bias is None:
        readers = list(after.output.outputs)
        made = Emitter(graph, reader).op("Add", after.output, carried)
        for node in readers:
            node.inputs = [made if t is after.output else t for t in node.inputs]
    else:
        adder = after.output.inputs[0]
        index = 2 if adder.op == "Gemm" else next(i for i, t in enumerate(adder.inputs) if constant(t) is not None)
        adder.inputs[index] = gs.Constant(f"{adder.name}/carried", after.bias + carried)
    replace(graph, layer.output, layer.node.outputs[0])
    return 1


def _layer_of(reader: gs.Node | None, tensor: gs.Tensor) -> linear.Linear | None:
    """The linear layer, its bias included, that a node of it multiplies ``tensor`` for."""
    if reader is None or reader.op not in ("MatMul", "Gemm"):
        return None
    made = reader.outputs[0]
    after = made.outputs[0].outputs[0] if len(made.outputs) == 1 and made.outputs[0].op == "Add" else made
    found = next((f for f in map(linear.of, (after, made)) if f is not None and f.node is reader), None)
    return found if found is not None and found.input is tensor else None
