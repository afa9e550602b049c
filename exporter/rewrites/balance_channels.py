"""Channels of a wide and of a narrow range brought together, exactly, before they share one scale of eight bits.

Three steps, each a multiplication by a vector here and by its inverse there:

* **Migration** (Xiao et al. 2022, SmoothQuant, arXiv:2211.10438). A LayerNormalization's scale and shift are divided
  by m, the rows of the weights that read it are multiplied by m: LN(x) W = (LN(x) / m) (m W). An outlier channel goes
  into the weights, which have a scale for each column. m is chosen by the error that it leaves, 1 among the choices.
* **Through a ReLU** the same: max(0, x W + b) V = max(0, (x W + b) / m) m V, with m in the columns of W and in b.
* **Column norms.** X W = (X (W / r)) r, with r from the range of each column's weights and of what it computes. The
  compiler's INT8 product takes one scale for all of its weights and one for its result; with r behind it, each column
  has its own of both. TensorRT-RTX 1.7 has no epilogue for INT8 products, so r is multiplied in the kernel that adds
  the bias, and costs nothing. A weight on the left (:mod:`exporter.rewrites.token_mixing`) has rows in their place.

Before: LayerNormalization -> MatMul -> Add. After: LayerNormalization -> MatMul -> Mul -> Add, other constants.

Matches: LayerNormalizations and ReLUs that were migrated and products that were given norms. Refused: one that
anything but products with weights reads; several weights in one product (planes), whose parts attention reads in
place; products without a bias, behind which norms would be one more kernel; what ``channels`` has no ranges of.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from exporter import linear
from exporter.emit import Emitter
from exporter.moves import Maps
from exporter.surgery import Shapes, constant, tidy

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""m = (activation range)^s / (weight range)^(1 - s) at these s, and m = 1."""

LEAST = 1e-5
"""Ranges below this share of the largest one count as that: a dead channel needs no norm of its own."""


def apply(graph: gs.Graph, shapes: Shapes, channels: Mapping[str, np.ndarray]) -> int:
    """Rewrite in place; ``channels``: (C,) the largest absolute value of each channel, by tensor."""
    tidy(graph)
    maps, matches = Maps(shapes), 0
    ranges = {name: np.maximum(values, LEAST * values.max()) for name, values in channels.items()}
    for node in list(graph.nodes):
        if node.op == "LayerNormalization":
            matches += _migrate(graph, node, maps, ranges)
        elif node.op == "Relu":
            matches += _migrate_relu(graph, node, maps, ranges)
    for node in list(graph.nodes):
        if node.op == "MatMul" and node.outputs[0].name in ranges:
            matches += _normalise(graph, node, ranges[node.outputs[0].name])
    tidy(graph)
    return matches


def _migrate(graph: gs.Graph, norm: gs.Node, maps: Maps, ranges: Mapping[str, np.ndarray]) -> int:
    readers = linear.products(graph, norm.outputs[0], maps)
    scale = constant(norm.inputs[1])
    if not readers or scale is None or any(r.inputs[0].name not in ranges for r in readers):
        return 0
    seen = np.max([ranges[r.inputs[0].name] for r in readers], 0)
    weights = [constant(r.inputs[1]) for r in readers]
    rows = np.concatenate(
        [w.reshape(-1, *w.shape[-2:]).transpose(1, 0, 2).reshape(w.shape[-2], -1) for w in weights], 1
    )
    if scale.shape != seen.shape or rows.shape[0] != len(seen):
        return 0
    moved = _migration(seen, rows)
    if moved is None:
        return 0
    for i in (1, 2)[: len(norm.inputs) - 1]:
        norm.inputs[i] = gs.Constant(f"{norm.name}/migrated_{i}", constant(norm.inputs[i]) / moved)
    for reader, weight in zip(readers, weights, strict=True):
        reader.inputs[1] = gs.Constant(f"{reader.name}/migrated", weight * moved[:, None])
    return 1


def _migrate_relu(graph: gs.Graph, node: gs.Node, maps: Maps, ranges: dict[str, np.ndarray]) -> int:
    layer, readers = linear.of(node.inputs[0]), linear.products(graph, node.outputs[0], maps)
    alone = len(node.inputs[0].outputs) == 1 and not any(node.inputs[0] is t for t in graph.outputs)
    if layer is None or layer.node.op != "MatMul" or not alone or not readers:
        return 0
    weights = [constant(r.inputs[1]) for r in readers]
    if any(r.inputs[0].name not in ranges or w.ndim != 2 for r, w in zip(readers, weights, strict=True)):
        return 0
    moved = _migration(np.max([ranges[r.inputs[0].name] for r in readers], 0), np.concatenate(weights, 1))
    if moved is None:
        return 0
    layer.node.inputs[1] = gs.Constant(f"{layer.node.outputs[0].name}/migrated", layer.weight / moved)
    if layer.bias is not None:
        adder = layer.output.inputs[0]
        index = next(i for i, t in enumerate(adder.inputs) if constant(t) is not None)
        adder.inputs[index] = gs.Constant(f"{layer.output.name}/migrated", layer.bias / moved)
    for reader, weight in zip(readers, weights, strict=True):
        reader.inputs[1] = gs.Constant(f"{reader.outputs[0].name}/migrated", weight * moved[:, None])
    product = layer.node.outputs[0].name
    if product in ranges:
        ranges[product] = ranges[product] / moved
    return 1


def _migration(seen: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
    """(C,) what is best divided out of the activations; None where nothing is."""
    widest = np.maximum(np.abs(rows).max(1), LEAST * np.abs(rows).max())
    choices = [seen**s / widest ** (1 - s) for s in STRENGTHS]
    best = min(choices, key=lambda m: _error(seen / m, rows * m[:, None]))
    if _error(seen, rows) <= _error(seen / best, rows * best[:, None]):
        return None
    return (best / np.exp(np.log(best).mean())).astype(np.float32)


def _error(seen: np.ndarray, rows: np.ndarray) -> float:
    """The variance that eight bits add to the product, up to a factor: by the activations' rounding and the weights'.

    A rounding error is uniform in a step of range / 127; a channel's values are taken to be a third of its range.
    """
    activations = seen.max() ** 2 * (rows**2).sum(0)
    weights = (np.abs(rows).max(0) ** 2) * ((seen / 3) ** 2).sum()
    return float((activations + weights).sum())


def _normalise(graph: gs.Graph, node: gs.Node, seen: np.ndarray) -> int:
    weights = [constant(t) for t in node.inputs]
    side = next((i for i, w in enumerate(weights) if w is not None and w.ndim > 1), None)
    if side is None:
        return 0
    weight, axis = weights[side], -1 if side else -2
    if weight.size > weight.shape[-1] * weight.shape[-2] or weight.shape[axis] != len(seen):
        return 0
    if not any(reader.op == "Add" for reader in node.outputs[0].outputs):
        return 0
    widest = np.abs(weight).max(axis=tuple(i for i in range(weight.ndim) if i != weight.ndim + axis))
    widest = np.maximum(widest, LEAST * widest.max())
    norms = np.maximum(widest / widest.mean(), seen / seen.mean()).astype(np.float32)
    output, product = node.outputs[0], gs.Variable(f"{node.outputs[0].name}/product", node.outputs[0].dtype)
    norms = norms if side else norms[:, None]
    node.inputs[side] = gs.Constant(f"{node.name}/normalised", weight / norms)
    node.outputs = [product]
    made = Emitter(graph, node).op("Mul", product, norms)
    made.inputs[0].outputs = [output]
    return 1
