"""softmax(x) with a guard against NaN -> softmax(x), where no guard is needed.

Before: Where(IsNaN(p), 0, p) of p = Softmax(x), which exporters write after every attention for rows that a mask
hides altogether. After: p. A softmax is NaN only where its input is NaN or Inf, or a whole row is -inf: the guard goes
where everything that is added to the scores is known and finite (:mod:`exporter.scores`). A NaN that comes in from
before the softmax then goes out as one, where the guard had hidden it.

Matches: guards taken out. Refused: a mask that depends on the input, or holds -inf.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from exporter import scores
from exporter.datafree import DataFree
from exporter.emit import replace
from exporter.errors import Refusal
from exporter.surgery import Shapes, constant, tidy


def apply(graph: gs.Graph, shapes: Shapes) -> int:
    """Rewrite in place; returns the number of guards that were taken out."""
    free, matches = DataFree(graph, shapes), 0
    for node in list(graph.nodes):
        if node.op == "Where" and _guards(node) and _finite(node.inputs[2].inputs[0], free, shapes):
            replace(graph, node.outputs[0], node.inputs[2])
            matches += 1
    tidy(graph)
    return matches


def _guards(node: gs.Node) -> bool:
    """Whether a Where takes 0 in place of NaN from a Softmax."""
    test, zero, kept = node.inputs
    value = constant(zero)
    asks = test.inputs and test.inputs[0].op == "IsNaN" and test.inputs[0].inputs[0] is kept
    zeros = value is not None and value.size == 1 and not value.ndim and not value.any()
    return bool(asks and zeros and kept.inputs and kept.inputs[0].op == "Softmax")


def _finite(softmax: gs.Node, free: DataFree, shapes: Shapes) -> bool:
    try:
        scores.steps(softmax.inputs[0], free, shapes)
    except Refusal:
        return False
    return True
