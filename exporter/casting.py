"""FP32 graph -> strongly typed graph: every tensor gets the precision's type, with a Cast wherever types meet.

TensorRT computes a layer in the type of its tensors, so this is what ``PRECISION=fp16`` means. Which nodes stay in
FP32 (sums and powers, constants that the type does not have) says :mod:`exporter.keeping`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporter import keeping, opsets
from exporter.errors import UsageError
from exporter.keeping import FIXED_FLOAT_INPUTS, MOVES
from exporter.shapes import infer
from exporter.types import Precision

FLOAT = TensorProto.FLOAT
ELEMENT = {"float32": FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}

FIXED_FLOAT_OUTPUTS = {"LayerNormalization": (1, 2)}
"""Outputs likewise: the mean and the deviation have the type of the sum (``stash_type``)."""


@dataclass
class Typed:
    """A typed graph and what was decided on the way."""

    model: onnx.ModelProto
    kept: dict[str, str] = field(default_factory=dict)
    """Nodes that compute in FP32 inside the typed graph, and why."""
    casts: int = 0


def cast(
    model: onnx.ModelProto,
    precision: Precision,
    io: str = "fp32",
    beyond: Mapping[str, str] | None = None,
    islands: Collection[str] = (),
    wide: Collection[str] = (),
) -> Typed:
    """Type ``model`` (FP32, edited in place) for ``precision``; inputs and outputs are FP32 or, by ``io``, its type.

    ``beyond``: tensors that leave the type's range, and why; nodes that make or read them stay in FP32. ``islands``:
    blocks or parts of blocks (:mod:`exporter.naming`) all of whose nodes do, ``wide`` modules.

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
    opsets.raise_to(model)
    types = infer(model).types
    kept = keeping.kept(model, precision, types, beyond, islands, wide)
    typed = _Caster(model, target, types, kept).run(io)
    del model.graph.value_info[:]
    return typed


class _Caster:
    """One pass over the graph that gives each consumer its input in the type it computes in."""

    def __init__(self, model: onnx.ModelProto, target: int, types: dict[str, int], kept: dict[str, str]):
        self.graph = model.graph
        self.typed = Typed(model, kept)
        self.target = target
        self.now = {name: FLOAT for name, kind in types.items() if kind == FLOAT}
        self.weights = {t.name: t for t in model.graph.initializer if t.data_type == FLOAT}
        self.stored = dict.fromkeys(self.weights, FLOAT)
        self.used: dict[tuple[str, int], str] = {}
        self.nodes: list[onnx.NodeProto] = []

    def run(self, io: str) -> Typed:
        outer = FLOAT if io == "fp32" else self.target
        for value in self.graph.input:
            if self.now.get(value.name) == FLOAT and value.name not in self.weights:
                value.type.tensor_type.elem_type = outer
                self.now[value.name] = outer
        self.stored |= {value.name: outer for value in self.graph.output if value.name in self.weights}
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
            made = self.target
        if node.name in self.typed.kept and node.op_type != "Cast":
            made = FLOAT
        if node.op_type != "Cast":
            for i in floats:
                node.input[i] = self._as(node.input[i], made, node.name)
            for i in fixed:
                if i < len(node.input) and node.input[i] in self.now:
                    node.input[i] = self._as(node.input[i], FLOAT, node.name)
        wide = FIXED_FLOAT_OUTPUTS.get(node.op_type, ())
        for i, name in enumerate(node.output):
            if name in self.now:
                self.now[name] = made if (floats or node.op_type == "Cast") and i not in wide else FLOAT

    def _as(self, name: str, kind: int, user: str) -> str:
        """The tensor ``name`` in the type ``kind``: itself, a weight of that type, or a Cast that others share."""
        if name in self.weights:
            own = kind == self.stored[name]
            return self.used.setdefault((name, kind), name if own else f"{name}/{TensorProto.DataType.Name(kind)}")
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
            if value.name in self.weights:
                self._as(value.name, outer, "")
                continue
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
                typed.append(narrow(self.weights[name], kind, result))
        del self.graph.initializer[:]
        self.graph.initializer.extend(sorted([*others, *typed], key=lambda t: t.name))


def narrow(tensor: TensorProto, kind: int, name: str) -> TensorProto:
    """An FP32 tensor rounded (to nearest even) to ``kind``."""
    with np.errstate(over="ignore"):
        values = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(kind))
    return numpy_helper.from_array(values, name)
