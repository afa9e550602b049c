"""FP32 graph -> strongly typed graph: every tensor gets the precision's type, with a Cast wherever types meet.

TensorRT computes a layer in the type of its tensors, so this is what ``PRECISION=fp16`` means. Nodes stay in FP32
where the precision says so (sums and powers), and where their constants cannot be written in the type: a mask of
-3.4e38 or a guard of 1e-12 would become -inf and 0 and then NaN. Between two nodes that stay, elementwise steps
stay too, or the sum's large intermediate would pass through the narrow type after all.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporter.errors import UsageError
from exporter.shapes import infer
from exporter.types import Precision

FLOAT = TensorProto.FLOAT
ELEMENT = {"float32": FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}

MOVES = frozenset(
    "Reshape Transpose Squeeze Unsqueeze Flatten Identity Slice Split Concat Gather GatherND GatherElements Expand "
    "Tile Pad DepthToSpace SpaceToDepth".split()
)
"""Operators that move values and change none: they take the type of what they move."""

ELEMENTWISE = frozenset("Add Sub Mul Div Neg Abs Max Min Clip Where Relu".split())

FIXED_FLOAT_INPUTS = {"Resize": (1, 2), "Range": (0, 1, 2), "QuantizeLinear": (1,), "DequantizeLinear": (1,)}
"""Inputs that the standard types as float whatever the data's type is."""


@dataclass
class Typed:
    """A typed graph and what was decided on the way."""

    model: onnx.ModelProto
    kept: dict[str, str] = field(default_factory=dict)
    """Nodes that compute in FP32 inside the typed graph, and why."""
    casts: int = 0


def cast(model: onnx.ModelProto, precision: Precision, io: str = "fp32") -> Typed:
    """Type ``model`` (FP32, edited in place) for ``precision``; inputs and outputs are FP32 or, by ``io``, its type.

    Raises :class:`UsageError` for a graph with control flow, whose bodies are not typed.
    """
    target = ELEMENT[precision.element_type]
    if target == FLOAT:
        return Typed(model)
    for node in model.graph.node:
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise UsageError(
                f"the graph has control flow ({node.op_type} {node.name})",
                stage="type",
                found=node.op_type,
                expected="a graph without If, Loop or Scan",
                next="PRECISION=fp32",
            )
    types = infer(model).types
    kept = _kept(model, precision, types)
    typed = _Caster(model, target, types, kept).run(io)
    del model.graph.value_info[:]
    return typed


def _kept(model: onnx.ModelProto, precision: Precision, types: dict[str, int]) -> dict[str, str]:
    """The nodes that stay in FP32, by name, with the reason."""
    kept = {n.name: f"{n.op_type} sums or powers in FP32" for n in model.graph.node if n.op_type in precision.keep_fp32}
    squares = {
        n.name: "a square in FP32"
        for n in model.graph.node
        if n.op_type == "Mul" and len(set(n.input)) == 1 and precision.keep_fp32
    }
    kept |= squares
    arrays = {t.name: t for t in model.graph.initializer if t.data_type == FLOAT}
    for node in model.graph.node:
        if node.name in kept or node.op_type in MOVES:
            continue
        for name in (n for n in node.input if n in arrays):
            if fault := unrepresentable(numpy_helper.to_array(arrays[name]), precision.element_type):
                kept[node.name] = fault
    producer = {name: n for n in model.graph.node for name in n.output}
    consumers = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            consumers[name].append(node)
    for node in model.graph.node:  # topological: an island grows forwards through what lies between two kept nodes
        if node.op_type not in ELEMENTWISE or node.name in kept:
            continue
        sources = [producer[name] for name in node.input if name in producer and types.get(name) == FLOAT]
        users = [user for name in node.output for user in consumers[name]]
        if sources and all(s.name in kept for s in sources) and users and any(u.name in kept for u in users):
            kept[node.name] = "between two nodes in FP32"
    return kept


def unrepresentable(values: np.ndarray, element_type: str) -> str | None:
    """Why constants cannot be written in a type: values beyond its range, or a scalar that would become 0."""
    if element_type != "float16":
        return None
    finite = np.abs(values[np.isfinite(values)])
    if finite.size and finite.max() > 65504:
        return f"a constant of {finite.max():.3g}, FP16 ends at 65504"
    if values.size == 1 and finite.size and 0 < finite.max() < 6.1e-5:
        return f"a constant of {finite.max():.3g}, below FP16's normal numbers"
    return None


class _Caster:
    """One pass over the graph that gives each consumer its input in the type it computes in."""

    def __init__(self, model: onnx.ModelProto, target: int, types: dict[str, int], kept: dict[str, str]):
        self.graph = model.graph
        self.typed = Typed(model, kept)
        self.target = target
        self.now = {name: FLOAT for name, kind in types.items() if kind == FLOAT}
        self.weights = {t.name: t for t in model.graph.initializer if t.data_type == FLOAT}
        self.used: dict[tuple[str, int], str] = {}
        self.nodes: list[onnx.NodeProto] = []

    def run(self, io: str) -> Typed:
        outer = FLOAT if io == "fp32" else self.target
        for value in self.graph.input:
            if self.now.get(value.name) == FLOAT and value.name not in self.weights:
                value.type.tensor_type.elem_type = outer
                self.now[value.name] = outer
        for node in list(self.graph.node):
            self._retype(node)
            self.nodes.append(node)
        self._outputs(outer)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        self._store_weights()
        return self.typed

    def _retype(self, node: onnx.NodeProto) -> None:
        fixed = FIXED_FLOAT_INPUTS.get(node.op_type, ())
        floats = [i for i, name in enumerate(node.input) if name in self.now and i not in fixed]
        if node.op_type == "Cast":
            made = next(a.i for a in node.attribute if a.name == "to")
        elif node.op_type in MOVES:
            data = next((i for i in floats if node.input[i] not in self.weights), None)
            made = self.now[node.input[data]] if data is not None else self.target
        else:
            made = FLOAT if node.name in self.typed.kept else self.target
        if node.op_type != "Cast":
            for i in floats:
                node.input[i] = self._as(node.input[i], made, node.name)
            for i in fixed:
                if i < len(node.input) and node.input[i] in self.now:
                    node.input[i] = self._as(node.input[i], FLOAT, node.name)
        for name in node.output:
            if name in self.now:
                self.now[name] = made if floats or node.op_type == "Cast" else FLOAT

    def _as(self, name: str, kind: int, user: str) -> str:
        """The tensor ``name`` in the type ``kind``: itself, a weight of that type, or a Cast that others share."""
        if name in self.weights:
            return self.used.setdefault(
                (name, kind), name if kind == FLOAT else f"{name}/{TensorProto.DataType.Name(kind)}"
            )
        if self.now[name] == kind:
            return name
        if (name, kind) not in self.used:
            result = f"{name}/{TensorProto.DataType.Name(kind)}"
            self.nodes.append(
                helper.make_node(
                    "Cast",
                    [name],
                    [result],
                    name=f"{user.rpartition('/')[0]}/Cast_{len(self.typed.kept)}_{self.typed.casts}",
                    to=kind,
                )
            )
            self.typed.casts += 1
            self.used[name, kind] = result
        return self.used[name, kind]

    def _outputs(self, outer: int) -> None:
        for value in self.graph.output:
            if value.name not in self.now:
                continue
            value.type.tensor_type.elem_type = outer
            if self.now[value.name] == outer:
                continue
            inner = f"{value.name}/inner"
            for node in self.nodes:
                for names in (node.input, node.output):
                    for i, name in enumerate(names):
                        if name == value.name:
                            names[i] = inner
            self.nodes.append(helper.make_node("Cast", [inner], [value.name], name=f"{value.name}/Cast", to=outer))
            self.typed.casts += 1

    def _store_weights(self) -> None:
        """Replace each FP32 weight by what its users want: the narrow type, FP32, or both."""
        others = [t for t in self.graph.initializer if t.name not in self.weights]
        typed = []
        for (name, kind), result in self.used.items():
            if name in self.weights:
                typed.append(self.weights[name] if kind == FLOAT else narrow(self.weights[name], kind, result))
        del self.graph.initializer[:]
        self.graph.initializer.extend(sorted([*others, *typed], key=lambda t: t.name))


def narrow(tensor: TensorProto, kind: int, name: str) -> TensorProto:
    """An FP32 tensor rounded (to nearest even) to ``kind``."""
    with np.errstate(over="ignore"):
        values = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(kind))
    return numpy_helper.from_array(values, name)
