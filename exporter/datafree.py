"""Tensors that no input's data reaches: constants, shapes, and what is computed of them, at a given batch.

A mask that an exporter expands to the batch, a position table that is sliced to the image: their values follow from
the shapes alone, so they can be computed here, once, and be looked at.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
from onnx.reference import ReferenceEvaluator
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from exporter.surgery import Shapes, absent

LIMIT = 1 << 26
"""Elements above which a tensor is not computed."""

RANDOM = frozenset("RandomNormal RandomUniform RandomNormalLike RandomUniformLike Bernoulli Multinomial".split())


class DataFree:
    """Values of a graph's data-free tensors. ``shapes`` is as a rewrite gets it."""

    def __init__(self, graph: gs.Graph, shapes: Shapes):
        self._opset = graph.opset
        self._shapes = shapes
        self._free: dict[int, bool] = {}
        self._values: dict[tuple[int, int], np.ndarray] = {}
        for node in graph.nodes:  # in their order, so that no question goes deep
            for tensor in node.outputs:
                self.holds(tensor)

    def holds(self, tensor: gs.Tensor) -> bool:
        """Whether no input's data reaches ``tensor``; an optional operand that is left out brings none."""
        if isinstance(tensor, gs.Constant) or absent(tensor):
            return True
        if id(tensor) not in self._free:
            node = tensor.inputs[0] if tensor.inputs else None
            self._free[id(tensor)] = node is not None and (
                node.op in ("Shape", "Size", "Constant")
                or (bool(node.inputs) and node.op not in RANDOM and all(map(self.holds, node.inputs)))
            )
        return self._free[id(tensor)]

    def value(self, tensor: gs.Tensor, batch: int) -> np.ndarray | None:
        """The value of a data-free tensor at ``batch``, or None where it cannot be computed here."""
        if isinstance(tensor, gs.Constant):
            return tensor.values
        key = (id(tensor), batch)
        if key not in self._values:
            self._values[key] = self._computed(tensor, batch)
        return self._values[key]

    def _computed(self, tensor: gs.Tensor, batch: int) -> np.ndarray | None:
        known = self._shapes(batch)
        if tensor.name in known.values:
            return known.values[tensor.name]
        shape = known.shapes.get(tensor.name)
        if not self.holds(tensor) or shape is None or -1 in shape or np.prod(shape, dtype=np.int64) > LIMIT:
            return None
        node = tensor.inputs[0]
        feeds = {t.name: self.value(t, batch) for t in node.inputs if t.name}
        if any(v is None for v in feeds.values()):
            return None
        try:
            proto = OnnxExporter.export_node(node)
            results = ReferenceEvaluator(proto, opsets={"": self._opset}).run(None, feeds)
        except Exception:  # an operator that the reference implementation does not have
            return None
        return np.asarray(results[node.outputs.index(tensor)])
