"""(x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * scale + shift -> LayerNormalization.

Before: ReduceMean, Sub, Pow or Mul, ReduceMean, Add, Sqrt, Div, and Mul and Add of one constant a column where there
are such. After: the standard operator (opset 17), which normalises in FP32 whatever the graph's type is; decomposed,
its squares overflow FP16 from 256 on.

Matches: normalisations over the last axis. Refused: other axes; steps that something else reads; an opset below 17.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from exporter.emit import Emitter, replace
from exporter.surgery import Shapes, constant, tidy


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of normalisations that were put together."""
    if graph.opset < 17:
        return 0
    known, matches = shapes(2).shapes, 0
    for node in list(graph.nodes):
        found = _normalises(graph, node, known) if node.op == "Div" else None
        if found is None:
            continue
        x, eps = found
        shape = known[node.outputs[0].name]
        scale, end = _affine(graph, node.outputs[0], "Mul", known, shape)
        shift, end = _affine(graph, end, "Add", known, shape)
        scale = np.ones(shape[-1], np.float32) if scale is None else scale
        inputs = [x, scale] if shift is None else [x, scale, shift]
        made = Emitter(graph, node).op("LayerNormalization", *inputs, axis=-1, epsilon=eps, stash_type=1)
        replace(graph, end, made)
        matches += 1
    tidy(graph)
    return matches


def _maker(tensor: gs.Tensor, *ops: str) -> gs.Node | None:
    """The node of one of these operators that makes ``tensor``."""
    return tensor.inputs[0] if tensor.inputs and tensor.inputs[0].op in ops else None


def _normalises(graph: gs.Graph, div: gs.Node, known: dict) -> tuple[gs.Tensor, float] | None:
    """(x, eps) where ``div`` is the normalised x."""
    centred, root = _maker(div.inputs[0], "Sub"), _maker(div.inputs[1], "Sqrt")
    added = _maker(root.inputs[0], "Add") if root is not None else None
    if centred is None or added is None:
        return None
    x, mean = centred.inputs[0], _maker(centred.inputs[1], "ReduceMean")
    eps = next((constant(t) for t in added.inputs if constant(t) is not None), None)
    variance = next((m for t in added.inputs if (m := _maker(t, "ReduceMean"))), None)
    if mean is None or mean.inputs[0] is not x or variance is None or eps is None or eps.size != 1:
        return None
    square = _maker(variance.inputs[0], "Pow", "Mul")
    rank = len(known.get(div.outputs[0].name) or ())
    if square is None or not rank or not all(_last(m, rank) for m in (mean, variance)):
        return None
    power = constant(square.inputs[1])
    squares = power is not None and power.size == 1 and float(power.reshape(())) == 2 if square.op == "Pow" else None
    if squares is None:
        squares = square.inputs[0] is square.inputs[1]
    same = square.inputs[0] is centred.outputs[0]
    alone = _alone(graph, [mean, centred, square, variance, added, root], div)
    return (x, float(eps.reshape(()))) if squares and same and alone else None


def _alone(graph: gs.Graph, steps: list[gs.Node], last: gs.Node) -> bool:
    """Whether nothing but the steps and the last one reads what the steps make."""
    own, outputs = {id(node) for node in (*steps, last)}, {id(t) for t in graph.outputs}
    made = [node.outputs[0] for node in steps]
    return not any(id(t) in outputs or any(id(reader) not in own for reader in t.outputs) for t in made)


def _last(node: gs.Node, rank: int) -> bool:
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else node.attrs.get("axes")
    return axes is not None and [int(a) % rank for a in axes] == [rank - 1] and bool(node.attrs.get("keepdims", 1))


def _affine(
    graph: gs.Graph, tensor: gs.Tensor, op: str, known: dict, shape: tuple[int, ...]
) -> tuple[np.ndarray | None, gs.Tensor]:
    """(the constant, the result) of a Mul or Add of one number a column that alone reads ``tensor``."""
    node = tensor.outputs[0] if len(tensor.outputs) == 1 and tensor.outputs[0].op == op else None
    if node is None or any(tensor is t for t in graph.outputs) or known.get(node.outputs[0].name) != shape:
        return None, tensor
    value = next((constant(t) for t in node.inputs if constant(t) is not None), None)
    if value is None or value.shape[-1:] != shape[-1:] or value.size != shape[-1]:
        return None, tensor
    return value.reshape(-1), node.outputs[0]
