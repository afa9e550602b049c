"""A convolution whose stride is its kernel is a matrix product: patches (B, tokens, 3 p p) @ weight + bias.

Before: Conv (kernel p, stride p), then movement that puts the channels last. After: Reshape, Transpose and Reshape of
the pixels into patches, MatMul, Add. The rows of a product may come in any order, so the first window partition moves
pixels and not features.

Matches: one for each such convolution. Refused: overlapping, padded, dilated or grouped convolutions; a result that
something reads with the channels first; an image that is no multiple of the patch.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from exporter.emit import Emitter, replace
from exporter.moves import Maps, is_move
from exporter.surgery import Shapes, constant, tidy


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of convolutions that became products."""
    maps, matches = Maps(shapes), 0
    for node in [n for n in graph.nodes if n.op == "Conv"]:
        matches += _patchify(graph, node, shapes, maps)
    tidy(graph)
    return matches


def _patchify(graph: gs.Graph, conv: gs.Node, shapes: Shapes, maps: Maps) -> bool:
    weight = constant(conv.inputs[1])
    bias = constant(conv.inputs[2]) if len(conv.inputs) > 2 else np.zeros(0, np.float32)
    shape, out = (shapes(2).shapes.get(t.name) for t in (conv.inputs[0], conv.outputs[0]))
    if weight is None or bias is None or shape is None or out is None or weight.ndim != 4:
        return False
    kernel = list(weight.shape[2:])
    plain = conv.attrs.get("group", 1) == 1 and set(conv.attrs.get("dilations", [1])) == {1}
    plain &= list(conv.attrs.get("strides", [1, 1])) == kernel and not any(conv.attrs.get("pads", [0]))
    plain &= conv.attrs.get("auto_pad", "NOTSET") in ("NOTSET", "VALID") and kernel != [1, 1]
    if not plain or shape[2] % kernel[0] or shape[3] % kernel[1]:
        return False
    seen = any(conv.outputs[0] is t for t in graph.outputs)
    sinks = _channels_last(conv.outputs[0], out, maps) if not seen else []
    if not sinks:
        return False
    e = Emitter(graph, conv)
    (channels, height, width), (p, q) = shape[1:], kernel
    rows, columns = height // p, width // q
    patches = e.transpose(e.reshape(conv.inputs[0], -1, channels, rows, p, columns, q), 0, 2, 4, 1, 3, 5)
    made = e.op("MatMul", e.reshape(patches, -1, rows * columns, channels * p * q), weight.reshape(len(weight), -1).T)
    if bias.size:
        made = e.op("Add", made, bias)
    for tensor in sinks:
        first, second = (shapes(batch).shapes[tensor.name] for batch in (1, 2))
        shape = [a if a == b else -1 for a, b in zip(first, second, strict=True)]
        replace(graph, tensor, e.reshape(made, *shape))
    return True


def _channels_last(tensor: gs.Tensor, shape: tuple[int, ...], maps: Maps) -> list[gs.Tensor]:
    """The tensors in which all readers of (B, C, h, w) find it with the channels last; none if one does not."""
    places = np.arange(np.prod(shape)).reshape(shape[0], shape[1], -1).swapaxes(1, 2).reshape(-1)
    sinks = []
    for reader in tensor.outputs:
        if not is_move(reader) or reader.op in ("Split", "Concat"):
            return []
        result = reader.outputs[0]
        found = maps.of(result, 2)
        if found is not None and found.source is tensor and np.array_equal(found.places.reshape(-1), places):
            sinks.append(result)
            continue
        below = _channels_last_below(result, tensor, places, maps)
        if not below:
            return []
        sinks += below
    return sinks


def _channels_last_below(tensor: gs.Tensor, source: gs.Tensor, places: np.ndarray, maps: Maps) -> list[gs.Tensor]:
    sinks = []
    for reader in tensor.outputs:
        result = reader.outputs[0] if is_move(reader) and reader.op not in ("Split", "Concat") else None
        found = maps.of(result, 2) if result is not None else None
        if found is None or found.source is not source or not np.array_equal(found.places.reshape(-1), places):
            return []
        sinks.append(result)
    return sinks
