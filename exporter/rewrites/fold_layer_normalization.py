"""A LayerNormalization's scale and shift inside the linear layers behind it.

(x g + b) W + c = x (g W) + (b W + c), with x normalised: the same number of products, two vectors fewer to read, and
what is rounded to 16 bits in between is x alone, whatever outliers g has.

Before: LayerNormalization(scale g, shift b) -> [movement of whole rows] -> MatMul(W) -> Add(c), for each reader.
After: LayerNormalization(scale 1) -> [the same] -> MatMul(g W) -> Add(c + b W).

Matches: one for each LayerNormalization. Refused: a reader that is no linear layer, a shift where a layer has no bias
(it would cost an addition), a weight that g takes near FP16's limit, a scale of ones without a shift.

Not among the canonical rewrites, a recipe adds it by name: TensorRT-RTX 1.7 reads scale and shift in the kernel that
normalises (ViT-Ti at batch 1: 102 kernels with and without, 37.37 MB for 37.38), and the graph then holds no tensor
that ``make blame`` could compare with the norm's own answer. For 8 bits ``balance_channels`` moves what pays.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from exporter import linear
from exporter.moves import Maps
from exporter.surgery import Shapes, constant, tidy

LIMIT = 65504.0
"""FP16's largest number: a folded weight must stay below a quarter of it."""


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of normalisations that were folded."""
    tidy(graph)
    maps = Maps(shapes)
    matches = sum(_fold(graph, node, maps) for node in list(graph.nodes) if node.op == "LayerNormalization")
    tidy(graph)
    return matches


def _fold(graph: gs.Graph, norm: gs.Node, maps: Maps) -> int:
    scale = constant(norm.inputs[1])
    shift = constant(norm.inputs[2]) if len(norm.inputs) > 2 else None
    if scale is None or scale.ndim != 1 or (len(norm.inputs) > 2 and shift is None):
        return 0
    if shift is not None and shift.shape != scale.shape:
        return 0
    if (scale == 1).all() and (shift is None or not shift.any()):
        return 0
    layers = [linear.made_by(graph, node) for node in linear.products(graph, norm.outputs[0], maps)]
    if not layers or not all(_takes(layer, scale, shift) for layer in layers):
        return 0
    weights = [layer.weight * scale[:, None] for layer in layers]
    if any(np.abs(w).max() > LIMIT / 4 for w in weights):
        return 0
    for layer, weight in zip(layers, weights, strict=True):
        if shift is not None and shift.any():
            linear.add(graph, layer, shift.astype(np.float64) @ layer.weight)
        layer.node.inputs[1] = gs.Constant(f"{layer.node.name}/scaled", weight)
    norm.inputs = [norm.inputs[0], gs.Constant(f"{norm.name}/one", np.ones_like(scale))]
    return 1


def _takes(layer: linear.Linear | None, scale: np.ndarray, shift: np.ndarray | None) -> bool:
    free = shift is None or not shift.any()
    return layer is not None and len(layer.weight) == scale.size and (free or layer.bias is not None)
