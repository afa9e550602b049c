"""Keys padded to a multiple of 8, so that every row of the bias begins where the compiler can load eight numbers.

Before: MatMul(Q, K) (..., N, M) -> Add of a constant -> Softmax -> MatMul(V), with M = 49 (Swin) or 197 (ViT).
After: MatMul(Q, Pad(K)) (..., N, 56) -> Add of the constant with ``LOWEST`` in the new columns -> Softmax ->
MatMul(Pad(V)). A key of zeros whose score is ``LOWEST`` has the weight exp(LOWEST) = 0, exactly, in FP32 as in 16 bits.

A variant that ``make tune`` tries on the winning form; no step of any default. Other attention libraries need it, this
compiler does not: TensorRT-RTX 1.7's fused attention (``_gemm_mha``) takes 49 and 197 keys as they are. Swin-T, FP16,
sm80, all attentions fused with and without: at batch 1 each Pad is a kernel (``positions_planes``, 108 -> 132), with a
free batch it is part of the copy of the heads (``positions_packed``, 108 kernels, 856 -> 876 MB at batch 8).

Matches: one for each attention. Refused, with the reason recorded: scores that something else reads, that are scaled
or masked by what the image decides, or whose axis of keys is a part of another one.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from exporter.emit import Emitter
from exporter.errors import Refusal
from exporter.surgery import Shapes, constant

MULTIPLE = 8
LOWEST = -65504.0
"""The lowest finite FP16."""


def apply(graph: gs.Graph, shapes: Shapes, refused: dict | None = None) -> int:
    """Rewrite in place; returns the number of attentions; ``refused`` is filled with reasons by node name."""
    matches, why, padded = 0, {}, {}
    for node in list(graph.nodes):
        if node.op == "Softmax":
            try:
                matches += _pad(graph, node, shapes, padded)
            except Refusal as reason:
                why[node.name] = str(reason)
    if refused is not None:
        refused.update(why)
    graph.cleanup().toposort()
    return matches


def _pad(graph: gs.Graph, softmax: gs.Node, shapes: Shapes, padded: dict[int, gs.Constant]) -> bool:
    shape = shapes(1).shapes.get(softmax.inputs[0].name)
    if shape is None or softmax.attrs.get("axis", -1) not in (-1, len(shape) - 1):
        raise Refusal("the softmax is not over the last axis")
    keys = shape[-1]
    more = -keys % MULTIPLE
    mix = _only_reader(softmax.outputs[0], graph)
    if mix.op != "MatMul" or mix.inputs[0] is not softmax.outputs[0] or constant(mix.inputs[1]) is not None:
        raise Refusal("its result is not multiplied with values")
    steps, product = _followed(graph, softmax, keys)
    ranks = [len(shapes(1).shapes[t.name]) for t in (product.inputs[1], mix.inputs[1])]
    if min(ranks) < 2 or shapes(1).shapes[product.inputs[1].name][-1] != keys:
        raise Refusal("its keys are not a matrix")
    if not more:
        return False
    e = Emitter(graph, product)
    product.inputs[1] = _longer(e, product.inputs[1], ranks[0], ranks[0] - 1, more)
    mix.inputs[1] = _longer(e.beside(mix), mix.inputs[1], ranks[1], ranks[1] - 2, more)
    last = next((node for node, index in steps if node.inputs[index].values.shape[-1:] == (keys,)), None)
    covered = last is not None and not any(node.op == "Mul" for node, _ in steps[: [n for n, _ in steps].index(last)])
    for node, index in steps:
        old = node.inputs[index]
        if node.op == "Reshape":
            node.inputs[index] = gs.Constant(f"{old.name}/padded", np.array([*old.values[:-1], keys + more]))
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
        if node.op not in ("Add", "Mul", "Reshape") or index is None:
            raise Refusal(f"its scores go through {node.op}")
        if node.op == "Reshape" and int(node.inputs[1].values[-1]) != keys:
            raise Refusal("its keys are a part of another axis")
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
