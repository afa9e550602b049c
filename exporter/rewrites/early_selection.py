"""Tokens are chosen before they are normalised: LayerNorm(x)[:, 0] -> LayerNorm(x[:, 0]).

Before: a row-wise operator on all tokens, of which a Gather or Slice then takes the class token. After: the operator
on what is taken. The numbers are the same, since each row is computed from itself.

Matches: selections that moved up past an operator. Refused: a selection along the columns; an operator that something
else reads, too.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from exporter.emit import Emitter, replace
from exporter.rowwise import row_inputs
from exporter.surgery import Shapes, constant


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of operators that a selection moved past."""
    matches = 0
    for node in list(graph.nodes):
        if node.op == "Gather":
            matches += _raise(graph, node, shapes)
    graph.cleanup().toposort()
    return matches


def _raise(graph: gs.Graph, gather: gs.Node, shapes: Shapes) -> int:
    """Move one selection as far up as it goes."""
    moved, index, axis = 0, constant(gather.inputs[1]), gather.attrs.get("axis", 0)
    while True:
        tensor = gather.inputs[0]
        shape = shapes(2).shapes.get(tensor.name)
        node = tensor.inputs[0] if tensor.inputs and len(tensor.outputs) == 1 else None
        if node is None or shape is None or index is None or axis % len(shape) in (0, len(shape) - 1):
            return moved
        fewer = index.size < shape[axis]
        if not fewer or node.op != "LayerNormalization" or row_inputs(node, len(shape), shape[-1]) != [0]:
            return moved
        if any(tensor is t for t in graph.outputs):
            return moved
        e = Emitter(graph, node)
        chosen = e.op("Gather", node.inputs[0], index, axis=axis)
        made = e.op(node.op, chosen, *node.inputs[1:], **{**node.attrs, "axis": -1})
        replace(graph, gather.outputs[0], made)
        gather = chosen.inputs[0]
        moved += 1
