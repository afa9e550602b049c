"""Everything that depends on no input is computed now: f(constants) -> a constant.

Before: relative position biases gathered and transposed from their tables, sine positions, shape arithmetic.
After: one constant each. onnx-graphsurgeon evaluates the nodes with ONNX Runtime.

Matches: nodes all of whose inputs are constants. Refused: a node whose result is larger than ``LIMIT`` bytes and
larger than what it is computed from, such as an Expand of one row to a whole batch.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from exporter.surgery import Shapes

LIMIT = 64 * 1024 * 1024


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of nodes that were computed away."""
    before = len(graph.nodes)
    graph.fold_constants(fold_shapes=False, size_threshold=LIMIT).cleanup().toposort()
    return before - len(graph.nodes)
