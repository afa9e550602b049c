"""BatchNormalization of a convolution's result -> the convolution's own weight and bias.

Before: Conv, BatchNormalization with constant statistics. After: Conv, whose filters are multiplied by
scale / sqrt(variance + epsilon) and whose bias takes the rest; exact in real numbers, at inference.

Matches: one for each normalisation that went. Refused: one in training mode (its statistics are the batch's); a
convolution that something else reads, or that is an output; weights or statistics that are no constants.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from exporter.surgery import Shapes, bypass, constant


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of normalisations that are folded away."""
    matches = 0
    for node in [n for n in graph.nodes if n.op == "BatchNormalization"]:
        matches += _fold(graph, node)
    graph.cleanup().toposort()
    return matches


def _fold(graph: gs.Graph, norm: gs.Node) -> bool:
    source = norm.inputs[0]
    conv = source.inputs[0] if source.inputs else None
    if conv is None or conv.op != "Conv" or norm.attrs.get("training_mode", 0) or len(norm.outputs) != 1:
        return False
    weight, *bias = (constant(t) for t in conv.inputs[1:])
    statistics = [constant(t) for t in norm.inputs[1:]]
    alone = len(source.outputs) == 1 and not any(source is t for t in graph.outputs)
    if not alone or any(value is None for value in (weight, *bias, *statistics)):
        return False
    scale, shift, mean, variance = (np.asarray(value, np.float64) for value in statistics)
    factor = scale / np.sqrt(variance + norm.attrs.get("epsilon", 1e-5))
    before = np.asarray(bias[0], np.float64) if bias else 0.0
    name = conv.inputs[1].name
    folded = (weight * factor.reshape(-1, *[1] * (weight.ndim - 1))).astype(weight.dtype)
    conv.inputs = [
        conv.inputs[0],
        gs.Constant(f"{name}/normalised", folded),
        gs.Constant(f"{name}/shift", ((before - mean) * factor + shift).astype(weight.dtype)),
    ]
    bypass(graph, norm)
    return True
