"""The operator set of a graph that is about to be typed: the standard's older ones lack types, not operators.

``Conv``, ``MatMul``'s relatives and pooling take BF16 from opset 22 on, ``QuantizeLinear`` FP16 from 19 on
(https://onnx.ai/onnx/operators/). Exporters that write an older one mean the same mathematics.
"""

from __future__ import annotations

import onnx
from onnx import version_converter

from exporter import onnxio

TYPED = 22


def raise_to(model: onnx.ModelProto, version: int = TYPED) -> None:
    """Rewrite ``model`` in place for a newer operator set, by onnx's own converter; a newer one stays as it is.

    Nodes keep their names; those that the converter adds, such as a constant that was an attribute, get their reader's.
    """
    if onnxio.opset(model) >= version:
        return
    weights = {t.name: t for t in model.graph.initializer}
    inputs = {value.name for value in model.graph.input}
    made = version_converter.convert_version(onnxio.skeleton(model), version)
    own = [value for value in made.graph.input if value.name in inputs or value.name not in weights]
    del made.graph.input[:]
    made.graph.input.extend(own)
    there = {t.name for t in made.graph.initializer}
    made.graph.initializer.extend(t for name, t in weights.items() if name not in there)
    _name(made.graph)
    model.CopyFrom(made)


def _name(graph: onnx.GraphProto) -> None:
    readers = {name: node.name for node in graph.node if node.name for name in node.input}
    for i, node in enumerate(graph.node):
        if not node.name:
            node.name = f"{readers.get(node.output[0], 'graph')}/{node.op_type}_o{i}"
