"""Floating-point operations of a graph's matrix products; one multiply-add is two operations.

Only MatMul, Gemm, Conv, ConvTranspose and Attention are counted: they are what tensor cores execute, and all other
operators together are below 1 % of a transformer's arithmetic.
"""

from __future__ import annotations

from math import prod

import onnx

from exporter.shapes import infer


def per_node(model: onnx.ModelProto, batch: int) -> dict[str, int]:
    """FLOPs of each matrix product of ``model`` at ``batch`` images, by node name."""
    shapes = infer(model, batch).shapes
    return {node.name: count for node in model.graph.node if (count := _flops(node, shapes))}


def _flops(node: onnx.NodeProto, shapes: dict) -> int:
    if node.op_type not in COUNTED:
        return 0
    known = [shapes.get(name) for name in (*node.input[:3], *node.output[:1]) if name]
    if any(shape is None or -1 in shape for shape in known):
        raise ValueError(f"the shapes of {node.op_type} {node.name} are not known: {known}")
    return 2 * COUNTED[node.op_type](node, [shapes.get(name) for name in node.input], shapes[node.output[0]])


def _matmul(node, inputs, output) -> int:
    return prod(output) * inputs[0][-1]


def _gemm(node, inputs, output) -> int:
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return prod(output) * inputs[0][0 if transposed else 1]


def _conv(node, inputs, output) -> int:
    return prod(output) * prod(inputs[1][1:])


def _conv_transpose(node, inputs, output) -> int:
    return prod(inputs[0]) * prod(inputs[1][1:])


def _attention(node, inputs, output) -> int:
    query, key, value = inputs[:3]
    if len(query) == 4:  # (batch, heads, tokens, head size)
        return prod(query[:3]) * key[2] * (query[3] + value[3])
    heads = next((a.i for a in node.attribute if a.name == "q_num_heads"), 1)
    shared = next((a.i for a in node.attribute if a.name == "kv_num_heads"), heads)
    return query[0] * query[1] * key[1] * (query[2] + value[2] * heads // shared)


COUNTED = {"MatMul": _matmul, "Gemm": _gemm, "Conv": _conv, "ConvTranspose": _conv_transpose, "Attention": _attention}
