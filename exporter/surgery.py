"""Small questions and steps that every rewrite needs, on top of onnx-graphsurgeon.

A rewrite is ``apply(graph, shapes) -> matches``: it edits the graph in place and returns how many times its
pattern was found. ``shapes(batch)`` is :func:`exporter.shapes.infer` on the graph before it, at that batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx_graphsurgeon as gs

from exporter.errors import Declined, Refusal
from exporter.shapes import Inferred

Shapes = Callable[[int], Inferred]

PROBES = (1, 2, 3, 31, 4099)
"""Batches at which a shape is asked for: one, few, many, and more than any profile may have. What holds at all of
them is taken to hold at every batch; shapes are arithmetic, and a parity run at the profile's ends follows."""


class Probes:
    """``shapes`` at every batch of ``PROBES``, in order, each one inferred when an iteration comes to it."""

    def __init__(self, shapes: Shapes):
        self.shapes = shapes

    def __iter__(self) -> Iterator[Inferred]:
        return map(self.shapes, PROBES)


class Numbers(str):
    """Why a match was left as it is, for its weights' sake: it counts as one that was found."""


def each(graph: gs.Graph, op: str, rewrite: Callable[[gs.Node], bool], refused: dict[str, str] | None) -> int:
    """``rewrite`` every node of an operator; returns how many it says it rewrote.

    A :class:`Refusal` that it raises leaves the node as it is; ``refused`` is filled with reasons by node name, those
    of a :class:`Declined` as ``Numbers``.
    """
    matches = 0
    for node in [n for n in graph.nodes if n.op == op]:
        try:
            matches += rewrite(node)
        except Refusal as reason:
            if refused is not None:
                refused[node.name] = Numbers(reason) if isinstance(reason, Declined) else str(reason)
    tidy(graph)
    return matches


def tidy(graph: gs.Graph) -> gs.Graph:
    """``graph`` without nodes that nothing reads, in topological order.

    What is so already is only looked at: onnx-graphsurgeon takes nine times as long to clean up and sort it again.
    """
    return graph if _is_tidy(graph) else graph.cleanup().toposort()


def _is_tidy(graph: gs.Graph) -> bool:
    """Whether each node is read, behind what it reads, and levels rise as onnx-graphsurgeon sorts them."""
    if graph.functions or any(t.inputs for t in graph.inputs):
        return False
    levels: dict[int, int] = {}
    highest = 0
    for node in graph.nodes:
        if any(isinstance(value, gs.Graph) for value in node.attrs.values()):
            return False
        made = [levels.get(id(producer)) for t in node.inputs for producer in t.inputs]
        if None in made or (level := max(made, default=-1) + 1) < highest:
            return False
        levels[id(node)] = highest = level
    read = {id(producer) for t in graph.outputs for producer in t.inputs}
    for node in reversed(graph.nodes):
        if id(node) not in read:
            return False
        read.update(id(producer) for t in node.inputs for producer in t.inputs)
    return True


def constant(tensor: gs.Tensor) -> np.ndarray | None:
    """The tensor's value where it is a constant, else None."""
    return tensor.values if isinstance(tensor, gs.Constant) else None


def absent(tensor: gs.Tensor) -> bool:
    """Whether an optional operand was left out by an empty name."""
    return isinstance(tensor, gs.Variable) and tensor.is_empty()


def bypass(graph: gs.Graph, node: gs.Node) -> None:
    """Take a node with one data input and one output out: its consumers read its input.

    A graph output keeps its name: where the node makes one, the producer of its input makes it instead.
    """
    source, result = node.inputs[0], node.outputs[0]
    if result in graph.outputs:
        producer = source.inputs[0] if source.inputs else None
        if producer is None or source in graph.outputs:
            return
        for consumer in list(source.outputs):
            consumer.inputs = [result if t is source else t for t in consumer.inputs]
        node.outputs.clear()
        producer.outputs = [result if t is source else t for t in producer.outputs]
        return
    for consumer in list(result.outputs):
        consumer.inputs = [source if t is result else t for t in consumer.inputs]
    node.outputs.clear()


def join_reshapes(graph: gs.Graph) -> int:
    """A Reshape of a Reshape reads the first one's input, unless its target copies an axis; returns how many."""
    joined = 0
    for node in graph.nodes:
        if node.op != "Reshape" or constant(node.inputs[1]) is None or (constant(node.inputs[1]) == 0).any():
            continue
        while node.inputs[0].inputs and node.inputs[0].inputs[0].op == "Reshape":
            node.inputs[0] = node.inputs[0].inputs[0].inputs[0]
            joined += 1
    return joined
