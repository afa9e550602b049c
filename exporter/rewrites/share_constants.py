"""Constants of equal type, shape and bytes are stored once.

Before: one relative position bias, one mask, one shape for each block that needs it. After: the first of each.

Refused: nothing; a constant has no identity but its value.
"""

from __future__ import annotations

import hashlib

import onnx_graphsurgeon as gs

from exporter.surgery import Shapes


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of constants that were replaced by an equal one."""
    first: dict[tuple, gs.Constant] = {}
    replaced: dict[str, gs.Constant] = {}
    for node in graph.nodes:
        for index, tensor in enumerate(node.inputs):
            if not isinstance(tensor, gs.Constant):
                continue
            if tensor.name not in replaced:
                values = tensor.values
                key = (str(values.dtype), values.shape, hashlib.sha256(values.tobytes()).digest())
                replaced[tensor.name] = first.setdefault(key, tensor)
            if replaced[tensor.name] is not tensor:
                node.inputs[index] = replaced[tensor.name]
    return sum(kept.name != name for name, kept in replaced.items())
