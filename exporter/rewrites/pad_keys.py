"""Keys padded to a multiple of 8, so that every row of the bias begins where the compiler can load eight numbers.

Before: MatMul(Q, K) (..., N, M) -> Add of a constant -> Softmax -> MatMul(V), with M = 49 (Swin) or 197 (ViT).
After: MatMul(Q, Pad(K)) (..., N, 56) -> Add of the constant with ``LOWEST`` in the new columns -> Softmax ->
MatMul(Pad(V)). A key of zeros whose score is ``LOWEST`` has the weight exp(LOWEST) = 0, exactly, in FP32 as in 16 bits.

A variant that ``make tune`` tries on the winning form; no step of any default. Other attention libraries need it, this
compiler does not: TensorRT-RTX 1.7's fused attention (``_gemm_mha``) takes 49 and 197 keys as they are. Swin-T, FP16,
sm80, all attentions fused with and without: each Pad is a kernel, at batch 1 (``positions_planes``, 96 -> 120) as with
a free batch (``positions_apart``, 96 -> 120, 719 -> 830 MB at batch 8).

Matches: one for each attention. Refused, with the reason recorded: scores that something else reads, that are scaled
or masked by what the image decides, or whose axis of keys is a part of another one or grows with the batch; a bias that
hides every key of a query, whose weights are then those of the least hidden.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from exporter.emit import Emitter
from exporter.errors import Refusal
from exporter.surgery import Shapes, constant, each

MULTIPLE = 8
LOWEST = -65504.0
"""The lowest finite FP16."""

HIDDEN = -1e4
"""What a bias hides a key with at least; the new keys are hidden from a query that has one above it."""

FP32 = 1


def apply(graph: gs.Graph, shapes: Shapes, refused: dict | None = None) -> int:
    """Rewrite in place; returns the number of attentions; ``refused`` is filled with reasons by node name."""
    padded: dict[tuple, gs.Constant] = {}
    return each(graph, "Softmax", lambda softmax: _pad(graph, softmax, shapes, padded), refused)


def _pad(graph: gs.Graph, softmax: gs.Node, shapes: Shapes, padded: dict[tuple, gs.Constant]) -> bool:
    shape, other = (shapes(batch).shapes.get(softmax.inputs[0].name) for batch in (1, 2))
    if not shape or not other or softmax.attrs.get("axis", -1) not in (-1, len(shape) - 1):
        raise Refusal("the softmax is not over the last axis")
    if shape[-1] != other[-1]:
        raise Refusal("it has more keys in a larger batch")
    keys = shape[-1]
    more = -keys % MULTIPLE
    mix = _only_reader(softmax.outputs[0], graph)
    if mix.op != "MatMul" or mix.inputs[0] is not softmax.outputs[0] or constant(mix.inputs[1]) is not None:
        raise Refusal("its result is not multiplied with values")
    steps, product = _followed(graph, softmax, keys)
    operands = [shapes(1).shapes.get(t.name) or () for t in (product.inputs[1], mix.inputs[1])]
    ranks = [len(found) for found in operands]
    if min(ranks) < 2 or operands[0][-1] != keys or operands[1][-2] != keys:
        raise Refusal("its keys and values are not matrices")
    if shapes(1).types.get(softmax.inputs[0].name) != FP32:
        raise Refusal("its scores are not FP32")
    if not more:
        return False
    e = Emitter(graph, product)
    product.inputs[1] = _longer(e, product.inputs[1], ranks[0], ranks[0] - 1, more)
    mix.inputs[1] = _longer(e.beside(mix), mix.inputs[1], ranks[1], ranks[1] - 2, more)
    sums = [(node, node.inputs[index].values) for node, index in steps if node.op == "Add"]
    last = next((node for node, values in sums if values.shape[-1:] == (keys,)), None)
    covered = last is not None and not any(node.op == "Mul" for node, _ in steps[: [n for n, _ in steps].index(last)])
    for node, index in steps:
        old = node.inputs[index]
        if node.op == "Reshape":
            if (key := (id(old), None)) not in padded:
                size = -1 if old.values[-1] == -1 else keys + more
                padded[key] = gs.Constant(f"{old.name}/padded", np.array([*old.values[:-1], size]))
            node.inputs[index] = padded[key]
        elif old.values.shape[-1:] == (keys,):
            fill = LOWEST if covered and node is last else 0.0
            if (key := (id(old), fill)) not in padded:
                widths = [(0, 0)] * (old.values.ndim - 1) + [(0, more)]
                values = np.pad(old.values, widths, constant_values=fill)
                padded[key] = gs.Constant(f"{old.name}/{'hidden' if fill else 'padded'}", values)
            node.inputs[index] = padded[key]
    if not covered:
        mask = np.repeat(np.float32([0, LOWEST]), [keys, more])
        softmax.inputs[0] = e.beside(softmax).op("Add", softmax.inputs[0], mask)
    return True


def _followed(graph: gs.Graph, softmax: gs.Node, keys: int) -> tuple[list[tuple[gs.Node, int]], gs.Node]:
    """((node, its constant operand) from the softmax up to the product of the scores, that product)."""
    steps: list[tuple[gs.Node, int]] = []
    tensor = softmax.inputs[0]
    while True:
        _only_reader(tensor, graph)
        if not tensor.inputs:
            raise Refusal("its scores are no product")
        node = tensor.inputs[0]
        if node.op == "MatMul" and constant(node.inputs[1]) is None:
            return steps, node
        index = next((i for i in range(len(node.inputs)) if constant(node.inputs[i]) is not None), None)
        if node.op not in ("Add", "Mul", "Reshape") or index is None or (node.op == "Reshape" and index != 1):
            raise Refusal(f"its scores go through {node.op}")
        values = node.inputs[index].values
        if node.op == "Reshape" and values[-1] not in (keys, -1):
            raise Refusal("its keys are a part of another axis")
        if node.op == "Add" and values.ndim and values.max(-1).min() < HIDDEN:
            raise Refusal("its bias hides every key of a query")
        steps.append((node, index))
        tensor = node.inputs[1 - index]


def _only_reader(tensor: gs.Tensor, graph: gs.Graph) -> gs.Node:
    if len(tensor.outputs) != 1 or any(tensor is t for t in graph.outputs):
        raise Refusal(f"{tensor.name} has other readers")
    return tensor.outputs[0]


def _longer(e: Emitter, tensor: gs.Tensor, rank: int, axis: int, more: int) -> gs.Tensor:
    pads = np.zeros(2 * rank, np.int64)
    pads[rank + axis] = more
    return e.op("Pad", tensor, pads)
