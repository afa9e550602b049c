"""Operators that treat every token alike: they commute with any permutation of rows."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from exporter.surgery import absent, constant

UNARY = frozenset(
    "Identity Cast Gelu Relu Tanh Sigmoid Erf Exp Log Sqrt Reciprocal Neg Abs Softplus HardSwish Clip Elu LeakyRelu "
    "HardSigmoid Mish".split()
)
BINARY = frozenset("Add Sub Mul Div Pow Max Min".split())
REDUCTIONS = frozenset("ReduceMean ReduceSum ReduceMax".split())


def row_inputs(node: gs.Node, rank: int, width: int) -> list[int] | None:
    """The inputs of ``node`` whose rows it maps one to one to its result's, or None if it does anything else.

    ``rank`` and ``width`` are the data's rank and last axis.
    """
    data = [i for i, t in enumerate(node.inputs) if constant(t) is None and not absent(t)]
    if node.op in UNARY:
        return data if data == [0] else None
    if node.op == "LayerNormalization":
        alone = data == [0] and node.attrs.get("axis", -1) in (-1, rank - 1) and len(node.outputs) == 1
        return data if alone and _for_columns(node.inputs[1:]) else None
    if node.op == "MatMul":
        return data if data == [0] and constant(node.inputs[1]).ndim == 2 and rank > 1 else None
    if node.op == "Gemm":
        return data if data == [0] and not node.attrs.get("transA") and _for_columns(node.inputs[2:]) else None
    if node.op in REDUCTIONS:
        axes = constant(node.inputs[1]) if len(node.inputs) > 1 else node.attrs.get("axes")
        last = axes is not None and [int(a) for a in np.ravel(axes)] in ([-1], [rank - 1])
        return data if data == [0] and last and node.attrs.get("keepdims", 1) else None
    if node.op in BINARY and len(node.inputs) == 2:
        constants = [constant(t) for t in node.inputs if constant(t) is not None]
        alike = all(c.size == 1 or (c.size == c.shape[-1] == width and c.ndim <= rank) for c in constants)
        return data if data and alike else None
    return None


def _for_columns(tensors: list[gs.Tensor]) -> bool:
    """Whether constants are the same for every row."""
    return all(c.size == 1 or c.size == c.shape[-1] for c in map(constant, tensors) if c is not None)
