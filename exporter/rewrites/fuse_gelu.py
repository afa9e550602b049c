"""0.5 x (1 + erf(x / sqrt 2)) -> Gelu, in whatever order the factors stand.

Before: Div or Mul, Erf, Add of 1 and two Muls. After: the standard operator (opset 20).

Matches: products of exactly x, 0.5 and 1 + erf(x / sqrt 2). Refused: an opset below 20, which has no Gelu; partial
results that something else reads; other constants (they are told apart to 1e-6).
"""

from __future__ import annotations

import math

import onnx_graphsurgeon as gs

from exporter.emit import Emitter, replace
from exporter.moves import scalar_factor
from exporter.surgery import Shapes, constant, tidy


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of activations that were put together."""
    known, matches = shapes(2).shapes, 0
    for node in list(graph.nodes) if graph.opset >= 20 else ():
        x, end = (_gelu(node) if node.op == "Erf" else None) or (None, None)
        if x is not None and known.get(node.outputs[0].name) == known.get(end.name):
            replace(graph, end, Emitter(graph, node).op("Gelu", x, approximate="none"))
            matches += 1
    tidy(graph)
    return matches


def _gelu(erf: gs.Node) -> tuple[gs.Tensor, gs.Tensor] | None:
    """(x, the whole product) around an Erf."""
    scaled = scalar_factor(erf.inputs[0].inputs[0]) if erf.inputs[0].inputs else None
    if scaled is None or not math.isclose(scaled[1], math.sqrt(0.5), rel_tol=1e-6):
        return None
    x, tensor = scaled[0], erf.outputs[0]
    node = _only(tensor, "Add")
    one = next((constant(t) for t in node.inputs if constant(t) is not None), None) if node is not None else None
    if one is None or one.size != 1 or float(one.reshape(())) != 1.0:
        return None
    tensor, number, variables = node.outputs[0], 1.0, 0
    while (node := _only(tensor, "Mul")) is not None and (number != 0.5 or variables != 1):
        other = next((t for t in node.inputs if t is not tensor), None)
        if other is None:
            return None
        factor = _of_x(other, x)
        if factor is None:
            return None
        number *= factor[0]
        variables += factor[1]
        tensor = node.outputs[0]
    return (x, tensor) if (number, variables) == (0.5, 1) else None


def _of_x(tensor: gs.Tensor, x: gs.Tensor) -> tuple[float, int] | None:
    """A factor as (number, power of x): x, a number, or x times a number."""
    if tensor is x:
        return 1.0, 1
    value = constant(tensor)
    if value is not None:
        return (float(value.reshape(())), 0) if value.size == 1 else None
    scaled = scalar_factor(tensor.inputs[0]) if tensor.inputs else None
    return (scaled[1], 1) if scaled is not None and scaled[0] is x else None


def _only(tensor: gs.Tensor, op: str) -> gs.Node | None:
    """The one reader of ``tensor``, if it is this operator."""
    return tensor.outputs[0] if len(tensor.outputs) == 1 and tensor.outputs[0].op == op else None
