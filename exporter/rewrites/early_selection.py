"""Tokens are chosen before they are normalised: LayerNorm(x)[:, 0] -> LayerNorm(x[:, 0]).

Before: a row-wise operator on all tokens, of which a Gather or Slice then takes the class token. After: the operator
on what is taken. The numbers are the same, since each row is computed from itself.

Matches: selections that moved up past an operator. Refused: a selection along the columns; an operator that something
else reads, too.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from exporter.emit import Emitter, replace
from exporter.moves import MOVES, is_move
from exporter.rowwise import row_inputs
from exporter.surgery import Shapes, constant


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of operators that a selection moved past."""
    matches = 0
    for node in list(graph.nodes):
        if node.op in ("Gather", "Slice") and is_move(node):
            matches += _raise(graph, node, shapes)
    graph.cleanup().toposort()
    return matches


def _raise(graph: gs.Graph, selection: gs.Node, shapes: Shapes) -> int:
    """Move one selection as far up as it goes."""
    moved = 0
    while (node := _above(graph, selection, shapes)) is not None:
        e = Emitter(graph, node)
        chosen = e.op(selection.op, node.inputs[0], *selection.inputs[1:], **selection.attrs)
        made = e.op(node.op, chosen, *node.inputs[1:], **{**node.attrs, "axis": -1})
        replace(graph, selection.outputs[0], made)
        for old in (selection, node):
            old.inputs.clear()
        selection = chosen.inputs[0]
        moved += 1
    return moved


def _above(graph: gs.Graph, selection: gs.Node, shapes: Shapes) -> gs.Node | None:
    """The operator that a selection can move past."""
    tensor = selection.inputs[0]
    shape = shapes(2).shapes.get(tensor.name)
    node = tensor.inputs[0] if tensor.inputs and len(tensor.outputs) == 1 else None
    if node is None or node.op != "LayerNormalization" or shape is None or min(shape) < 1:
        return None
    axes = {int(axis) % len(shape) for axis in _axes(selection)}
    fewer = MOVES[selection.op](selection, [np.broadcast_to(np.int8(0), shape)], 0).size < math.prod(shape)
    if not fewer or axes & {0, len(shape) - 1} or any(tensor is t for t in graph.outputs):
        return None
    return node if row_inputs(node, len(shape), shape[-1]) == [0] else None


def _axes(selection: gs.Node) -> list[int]:
    if selection.op == "Gather":
        return [selection.attrs.get("axis", 0)]
    axes = constant(selection.inputs[3]) if len(selection.inputs) > 3 else range(constant(selection.inputs[1]).size)
    return list(axes)
