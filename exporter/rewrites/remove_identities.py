"""Nodes that change nothing: x -> op(x) -> y becomes x -> y.

Matches Identity and Dropout (inference); Cast and CastLike to the type that is there; Pad by zero elements; Slice
of everything; Transpose that leaves every axis in place; Concat of one tensor; Reshape and Expand to the shape
that is there at every probed batch.

Refused: anything of which the type or the shape is not known.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from exporter.surgery import Probes, Shapes, bypass, constant


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of nodes taken out."""
    inferred = Probes(shapes)
    matches = 0
    for node in list(graph.nodes):
        if any(t.outputs or t in graph.outputs for t in node.outputs[1:]):
            continue  # a Dropout whose mask is read
        if node.op in SAME and node.outputs and SAME[node.op](node, inferred):
            outputs = list(node.outputs)
            bypass(graph, node)
            matches += node.outputs != outputs
    return matches


def _always(node: gs.Node, inferred: Probes) -> bool:
    return len(node.inputs) == 1


def _infers(node: gs.Node, inferred: Probes) -> bool:
    """Whether a Dropout is in inference mode, which it is unless an input says otherwise."""
    training = constant(node.inputs[2]) if len(node.inputs) > 2 else False
    return training is not None and not training


def _same_type(node: gs.Node, inferred: Probes) -> bool:
    types = next(iter(inferred)).types
    before, after = (types.get(t.name, 0) for t in (node.inputs[0], node.outputs[0]))
    return before == after != 0


def _same_shape(node: gs.Node, inferred: Probes) -> bool:
    for found in inferred:
        before, after = (found.shapes.get(t.name) for t in (node.inputs[0], node.outputs[0]))
        if before is None or before != after or -1 in before:
            return False
    return True


def _pads_nothing(node: gs.Node, inferred: Probes) -> bool:
    pads = constant(node.inputs[1]) if len(node.inputs) > 1 else np.array(node.attrs.get("pads", [1]))
    return pads is not None and not pads.any()


def _takes_all(node: gs.Node, inferred: Probes) -> bool:
    steps = constant(node.inputs[4]) if len(node.inputs) > 4 else np.ones(1)
    return steps is not None and bool((steps == 1).all()) and _same_shape(node, inferred)


def _in_place(node: gs.Node, inferred: Probes) -> bool:
    order = node.attrs.get("perm")
    return order is not None and list(order) == sorted(order)


SAME = {
    "Identity": _always,
    "Dropout": _infers,
    "Concat": _always,
    "Cast": _same_type,
    "CastLike": _same_type,
    "Pad": _pads_nothing,
    "Slice": _takes_all,
    "Transpose": _in_place,
    "Reshape": _same_shape,
    "Expand": _same_shape,
}
