"""No bias on queries: a constant that the normalisation in front gives every channel carries it through the weight.

The channels of a LayerNormalization add up to nothing before its scale and shift, whatever the image. So with scale 1
and shift t they add up to t D for every token, and a number that is added to a whole column of a weight is a bias:
(x + t) (W + 1 c) = x W + t 1 W + t D c, with x of D channels that add up to nothing.

In exact arithmetic; 16 bits round x + t where they rounded x, and c where there was none. What that adds to the
product's rounding error is computed from the weights and from how much each channel varies (:mod:`exporter.spreads`),
and t is the one of ``SHIFTS`` that adds the least: a twentieth at most in the networks for digits. Where a few channels
of the residual are massive, little is left of the others, and t would drown it: a ViT whose residual has channels of
+-1000 lost 1.3 points in BF16 before such normalisations were left as they are.

Before: LayerNormalization(scale g, shift b) -> [movement of whole rows] -> MatMul(W) [-> Add(a)], for Q, K and V.
After: LayerNormalization(scale 1, shift t) -> [the same] -> MatMul(W'), with W' = g W + 1 (a + b W - t 1 g W) / (t D).

Learned from TensorRT-RTX 1.7: its fused attention reads parts of a plain product's output in place, but what adds a
bias is a generated kernel, whose parts are copied first. :mod:`exporter.rewrites.fold_attention_biases` moves the
biases of keys and values away, the queries' kept Q in a product of its own. Without it all three are one product and a
block is 7 kernels in place of 8.

Matches: one for each LayerNormalization. Refused, with the reason recorded: one that anything but projections of an
attention reads, or that reaches them beside rows that it did not make (windows padded with zeros). Declined, which
the count does not mind: an error that would grow by more than ``GROWTH``, by massive channels or a bias that is large
beside its weight; a weight near FP16's limit. FP32, without fused attention, goes without.
"""

from __future__ import annotations

from functools import cached_property, partial

import numpy as np
import onnx_graphsurgeon as gs

from exporter import attention, linear, spreads
from exporter.emit import replace
from exporter.errors import Declined, Refusal
from exporter.moves import Maps
from exporter.rowwise import row_inputs
from exporter.surgery import Shapes, absent, constant, each, tidy

SHIFTS = (0.125, 0.25, 0.5)
"""What t may be."""

GROWTH = 1.5
"""How much larger the rounding error of a product may become. That of a whole attention grows less: to 0.81 to 1.02
times in four of 64 channels, in FP16 and in BF16."""

TINY = float(np.finfo(np.float32).tiny)
LIMIT = 65504.0
"""FP16's largest number: a weight must stay below a quarter of it."""


def apply(graph: gs.Graph, shapes: Shapes, refused: dict | None = None) -> int:
    """Rewrite in place; returns the number of normalisations; ``refused`` is filled with reasons by node name."""
    tidy(graph)
    maps = Maps(shapes)
    operands = [o for found in attention.find(graph, shapes)[0] for o in (found.q, found.k, found.v)]
    projections = {id(layer.node) for o in operands if (layer := linear.of(o.source)) is not None}
    spread = _Spreads(graph, shapes)
    absorb = partial(_absorb, graph, projections=projections, shapes=shapes, maps=maps, spread=spread)
    return each(graph, "LayerNormalization", absorb, refused)


class _Spreads:
    """:func:`exporter.spreads.of` all normalisations, looked at when the first one is asked for."""

    def __init__(self, graph: gs.Graph, shapes: Shapes):
        self.graph, self.shapes = graph, shapes

    def __call__(self, norm: gs.Node, width: int) -> np.ndarray:
        return self._known.get(norm.outputs[0].name, np.ones(width))

    @cached_property
    def _known(self) -> dict[str, np.ndarray]:
        return spreads.of(self.graph, self.shapes)


def _absorb(
    graph: gs.Graph, norm: gs.Node, projections: set[int], shapes: Shapes, maps: Maps, spread: _Spreads
) -> bool:
    readers = linear.products(graph, norm.outputs[0], maps)
    if not any(id(node) in projections for node in readers):
        return False
    layers = [linear.made_by(graph, node) if id(node) in projections else None for node in readers]
    if None in layers:
        raise Refusal("something else reads it, too")
    if all(layer.bias is None for layer in layers):
        return False
    width, rank = len(layers[0].weight), len(shapes(1).shapes.get(norm.inputs[0].name) or ())
    scale, shift = _vectors(norm, width)
    if row_inputs(norm, rank, width) is None or scale is None or shift is None:
        raise Refusal("it does not normalise the channels of each token")
    if any(values.dtype != np.float32 for layer in layers for values in (scale, layer.weight)):
        raise Refusal("its weights are not FP32")
    if any(
        layer.bias is not None and _rank(layer.output, shapes) != _rank(layer.node.outputs[0], shapes)
        for layer in layers
    ):
        raise Refusal("a bias adds an axis")
    kept, weights = _weights(layers, scale.astype(np.float64), shift.astype(np.float64), spread(norm, width))
    for layer, weight in zip(layers, weights, strict=True):
        layer.node.inputs[1] = gs.Constant(f"{layer.node.outputs[0].name}/unbiased", weight)
        if layer.bias is not None:
            replace(graph, layer.output, layer.node.outputs[0])
    norm.inputs = [
        norm.inputs[0],
        gs.Constant(f"{norm.outputs[0].name}/one", np.ones(width, np.float32)),
        gs.Constant(f"{norm.outputs[0].name}/shift", np.full(width, kept, np.float32)),
    ]
    return True


def _vectors(norm: gs.Node, width: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(scale, shift) by channel, zeros for a shift that is left out; None for what is no vector of the channels."""
    found = [constant(t) for t in norm.inputs[1:3]]
    if len(norm.inputs) < 3 or absent(norm.inputs[2]):
        found = [found[0], np.zeros(width, np.float32)]
    scale, shift = (v.reshape(-1) if v is not None and v.size in (1, width) else None for v in found)
    return scale, shift


def _rank(tensor: gs.Tensor, shapes: Shapes) -> int:
    return len(shapes(1).shapes.get(tensor.name) or ())


def _weights(
    layers: list[linear.Linear], scale: np.ndarray, shift: np.ndarray, spread: np.ndarray
) -> tuple[float, list[np.ndarray]]:
    """(t, (in, out) of each weight that has the bias in its columns)."""
    width = len(layers[0].weight)
    scale, shift = (np.broadcast_to(vector, width) for vector in (scale, shift))
    with np.errstate(all="ignore"):  # weights that are not finite are declined below
        scaled = [scale[:, None] * layer.weight for layer in layers]
        shares = [(shift @ layer.weight + (0 if layer.bias is None else layer.bias)) / width for layer in layers]
        centred = [weight - weight.mean(0) for weight in scaled]
        each_layer = [_growths(*of, spread) for of in zip(scaled, centred, shares, strict=True)]
        growth = dict(zip(SHIFTS, np.max(each_layer, axis=0), strict=True))
        kept = min(SHIFTS, key=growth.__getitem__)
        made = [weight + share / kept for weight, share in zip(centred, shares, strict=True)]
    largest = np.max([np.abs(weight).max() for weight in made])
    if not np.isfinite(largest):
        raise Declined("its weights are not finite")
    if largest > LIMIT / 4:
        raise Declined("the weight would be near FP16's limit")
    if np.isnan(growth[kept]):
        raise Declined("noise takes its input out of FP32, so its rounding error cannot be told")
    if growth[kept] > GROWTH:
        raise Declined(f"the rounding error of its products would be {growth[kept]:.3g} times as large")
    return kept, [weight.astype(np.float32) for weight in made]


def _growths(before: np.ndarray, centred: np.ndarray, share: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """How much larger a product's error by the rounding of its activations is, for each of ``SHIFTS``.

    ``before`` it is that of x, the root of the sum of spread^2 W^2; then that of x + t, of (spread^2 + t^2) W'^2 with
    W' = ``centred`` + ``share`` / t, here multiplied out: the columns of ``centred`` add up to nothing.
    """
    t, varies = np.array(SHIFTS), np.square(spread)
    squares = np.square(centred).sum(1)
    new = varies @ squares + t * t * squares.sum() + 2 / t * (varies @ centred @ share)
    new += (varies.sum() / (t * t) + len(centred)) * (share @ share)
    return np.sqrt(np.maximum(new, 0) / max(varies @ np.square(before).sum(1), TINY))
