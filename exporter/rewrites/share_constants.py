"""Constants of equal type, shape and bytes are stored once.

Before: one relative position bias, one mask, one shape for each block that needs it. After: the first of each.

Refused: nothing; a constant has no identity but its value.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np
import onnx_graphsurgeon as gs

from exporter.surgery import Shapes

SAMPLED = 64


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of constants that were replaced by an equal one."""
    constants = {t.name: t for node in graph.nodes for t in node.inputs if isinstance(t, gs.Constant)}
    alike: dict[tuple, list[gs.Constant]] = defaultdict(list)
    for tensor in constants.values():
        alike[_resemblance(tensor.values)].append(tensor)
    kept: dict[str, gs.Constant] = {}
    for group in alike.values():
        first: dict[bytes, gs.Constant] = {}
        for tensor in group:
            digest = hashlib.sha256(np.ascontiguousarray(tensor.values)).digest() if len(group) > 1 else b""
            kept[tensor.name] = first.setdefault(digest, tensor)
    for node in graph.nodes:
        for index, tensor in enumerate(node.inputs):
            if isinstance(tensor, gs.Constant):
                node.inputs[index] = kept[tensor.name]
    return sum(tensor.name != name for name, tensor in kept.items())


def _resemblance(values: np.ndarray) -> tuple:
    """Equal for equal constants, and seldom for others: saves reading all the weights."""
    return str(values.dtype), values.shape, values.ravel()[:: max(1, values.size // SAMPLED)].tobytes()
