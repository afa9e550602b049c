"""Writes new nodes into a graph: named by the block that they belong to, so that blame and kernels stay readable."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_graphsurgeon as gs
from onnx import helper

from exporter.errors import Refusal
from exporter.naming import path_of


class Emitter:
    """Appends nodes to ``graph`` under the module path of ``like``, a node that they replace or serve."""

    def __init__(self, graph: gs.Graph, like: gs.Node):
        self.graph = graph
        self.path = path_of(like.name)

    def beside(self, like: gs.Node) -> Emitter:
        """An emitter for the same graph under another node's path."""
        return Emitter(self.graph, like)

    def op(self, op: str, *inputs, outputs: int = 1, **attrs):
        """The output of a new node, or the list of them; numpy arrays among the inputs become constants."""
        name = unique(self.graph, f"{self.path}/{op}")
        tensors = [
            gs.Constant(f"{name}/{i}", np.array(t, order="C")) if isinstance(t, (np.ndarray, np.generic)) else t
            for i, t in enumerate(inputs)
        ]
        kind = next((t.dtype for t in tensors if not isinstance(t, gs.Constant)), None)
        made = [gs.Variable(f"{name}:{i}", dtype=kind) for i in range(outputs)]
        self.graph.nodes.append(gs.Node(op, name, attrs, tensors, made))
        return made[0] if outputs == 1 else made

    def reshape(self, tensor, *shape: int):
        return self.op("Reshape", tensor, np.array(shape, np.int64))

    def transpose(self, tensor, *perm: int):
        return self.op("Transpose", tensor, perm=list(perm))


UNCHANGED = 21
"""From this operator set on, every operator that was there means the same in the newer ones."""


def require_opset(graph: gs.Graph, version: int) -> None:
    """Let the graph import at least this version of the standard operators.

    Raises :class:`Refusal` for a graph so old that what it has would mean something else.
    """
    if graph.opset < UNCHANGED:
        raise Refusal(f"its operator is of opset {version}, the graph of {graph.opset}")
    if graph.opset < version:
        graph.opset = version
        graph.import_domains = [d for d in graph.import_domains or () if d.domain not in ("", "ai.onnx")]
        graph.import_domains.insert(0, helper.make_opsetid("", version))


def unique(graph: gs.Graph, name: str) -> str:
    """``name`` with a number that no node of the graph has."""
    counter = graph.__dict__.setdefault("_emitted", itertools.count())
    if "_taken" not in graph.__dict__:
        graph.__dict__["_taken"] = {node.name for node in graph.nodes}
    taken = graph.__dict__["_taken"]
    while (made := f"{name}_r{next(counter)}") in taken:
        pass
    taken.add(made)
    return made


def replace(graph: gs.Graph, old: gs.Tensor, new: gs.Tensor) -> None:
    """Every reader of ``old`` reads ``new``; a graph output keeps its name."""
    if any(old is t for t in graph.outputs):
        for producer in list(old.inputs):
            producer.outputs = [
                gs.Variable(f"{old.name}/before", old.dtype) if t is old else t for t in producer.outputs
            ]
        if not new.inputs or any(new is t for t in graph.outputs):
            graph.nodes.append(gs.Node("Identity", unique(graph, f"{old.name}/Identity"), {}, [new], [old]))
            return
        for node in list(new.outputs):
            node.inputs = [old if t is new else t for t in node.inputs]
        for node in list(new.inputs):
            node.outputs = [old if t is new else t for t in node.outputs]
        return
    for node in list(old.outputs):
        node.inputs = [new if t is old else t for t in node.inputs]
