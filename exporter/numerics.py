"""The numerics twin: a typed graph as an FP32 graph whose rounding is written out, to run on a CPU.

ONNX Runtime's CPU kernels compute FP16 graphs in FP32 and round little or nothing between operators, so they hide
overflow, and most operators have no BF16 kernel. In the twin every operator computes in FP32 from operands that the
type can hold, accumulates in FP32, and has its result rounded to the type and back: what a tensor core does, with
one rounding an operator where the compiler's fused kernels have fewer. TF32 rounds the operands of matrix products
to 10 mantissa bits instead.

The rounding is a pair of Casts, which a runtime could think redundant: :func:`canary` proves that it did not.
"""

from __future__ import annotations

import functools

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporter.casting import FLOAT
from exporter.errors import CheckFailed, UsageError
from exporter.keeping import MOVES
from exporter.shapes import infer

NARROW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)

EXACT = MOVES | {"Cast", "Relu", "Neg", "Abs", "Max", "Min", "MaxPool", "ReduceMax", "ReduceMin"}
"""Operators whose results are values of their operands: nothing to round."""

MATRIX = {"MatMul": (0, 1), "Gemm": (0, 1), "Conv": (0, 1), "ConvTranspose": (0, 1)}
"""The operands that a tensor core multiplies."""

SPLIT = 2.0**42 + 1
"""Veltkamp's constant that leaves 53 - 42 = 11 significant bits of a double, which is TF32; no FP32 overflows there."""


def twin(model: onnx.ModelProto, tf32: bool = False, rounded: bool = True) -> onnx.ModelProto:
    """A new FP32 model with the names of ``model``'s inputs and outputs that computes what typed hardware computes.

    ``tf32``: round the operands of FP32 matrix products. Without ``rounded`` only the weights are what the narrow type
    made of them: the graph's mathematics apart from the hardware's. Raises :class:`UsageError` for a tensor whose type
    cannot be inferred, because it could not be rounded.
    """
    types = infer(model).types
    made = _interface(model)
    writer = _Writer(types, tf32, rounded)
    writer.widen(model.graph.initializer)
    for value in (*made.graph.input, *made.graph.output):
        if value.type.tensor_type.elem_type in NARROW:
            value.type.tensor_type.elem_type = FLOAT
    for value in made.graph.input:
        if types[value.name] in writer.result_kinds:
            writer.round_input(value.name)
    for node in model.graph.node:
        writer.node(node)
    made.graph.node.extend(writer.nodes)
    used = {name for node in writer.nodes for name in node.input} | {value.name for value in made.graph.output}
    made.graph.initializer.extend(t for name, t in writer.constants.items() if name in used)
    return made


def _interface(model: onnx.ModelProto) -> onnx.ModelProto:
    shell = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    shell.opset_import.extend(model.opset_import)
    shell.graph.name = model.graph.name
    shell.graph.input.extend(model.graph.input)
    shell.graph.output.extend(model.graph.output)
    return shell


class _Writer:
    """Writes the twin's nodes in order."""

    def __init__(self, types: dict[str, int], tf32: bool, rounded: bool):
        self.types = types
        self.result_kinds = NARROW if rounded else ()
        self.tf32 = tf32
        self.nodes: list[onnx.NodeProto] = []
        self.renamed: dict[str, str] = {}
        self.rounded: dict[str, str] = {}
        self.constants: dict[str, TensorProto] = {}

    def widen(self, initializers) -> None:
        """Take the weights, narrow ones as FP32, which is exact."""
        for tensor in initializers:
            if tensor.data_type in NARROW:
                self._constant(tensor.name, numpy_helper.to_array(tensor).astype(np.float32))
            else:
                self.constants[tensor.name] = tensor

    def _constant(self, name: str, values: np.ndarray) -> None:
        self.constants[name] = numpy_helper.from_array(values, name)

    def _dequantized(self, node: onnx.NodeProto) -> None:
        """An 8-bit weight as the FP32 numbers that it stands for: one scale, zero point 0."""
        numbers, scale = (numpy_helper.to_array(self.constants[name]) for name in node.input[:2])
        self._constant(node.output[0], numbers.astype(np.float32) * np.float32(scale))

    def round_input(self, name: str) -> None:
        self.renamed[name] = f"{name}/rounded"
        self._round(name, self.renamed[name], self.types[name])

    def node(self, node: onnx.NodeProto) -> None:
        if node.op_type == "DequantizeLinear" and node.input[0] in self.constants:
            self._dequantized(node)
            return
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for i, name in enumerate(copy.input):
            copy.input[i] = self.renamed.get(name, name)
        self._widen_attributes(copy)
        if self.tf32 and node.op_type in MATRIX:
            for i in MATRIX[node.op_type]:
                copy.input[i] = self._tf32(copy.input[i])
        narrowing = node.op_type == "Cast" and self.types.get(node.input[0]) != self.types.get(node.output[0])
        for i, name in enumerate(node.output):
            kind = self.types.get(name, 0)
            if name and kind == TensorProto.UNDEFINED:
                raise UsageError(
                    f"the type of {name} is not known, so its rounding is not either",
                    stage="parity",
                    found=f"{node.op_type} {node.name}",
                    expected="an operator of the standard",
                    next="PRECISION=fp32",
                )
            if kind in self.result_kinds and (narrowing or node.op_type not in EXACT):
                copy.output[i] = f"{name}/exact"
        self.nodes.append(copy)
        for before, name in zip(copy.output, node.output, strict=True):
            if before != name:
                self._round(before, name, self.types[name])

    def _widen_attributes(self, node: onnx.NodeProto) -> None:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in NARROW:
                attribute.i = FLOAT
            elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type in NARROW:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float32)))

    def _round(self, source: str, result: str, kind: int) -> None:
        narrow = f"{result}/narrow"
        self.nodes.append(helper.make_node("Cast", [source], [narrow], name=f"{result}/round", to=kind))
        self.nodes.append(helper.make_node("Cast", [narrow], [result], name=f"{result}/widen", to=FLOAT))

    def _tf32(self, name: str) -> str:
        """The tensor rounded to TF32: computed now for a weight, by Veltkamp's splitting for an activation."""
        if name in self.rounded:
            return self.rounded[name]
        result = self.rounded[name] = f"{name}/tf32"
        if name in self.constants:
            self._constant(result, to_tf32(numpy_helper.to_array(self.constants[name])))
            return result
        self._constant("tf32/split", np.array(SPLIT, np.float64))
        wide, scaled, low, high, finite, infinite = (
            f"{result}/{part}" for part in ("wide", "scaled", "low", "high", "finite", "infinite")
        )
        for op, inputs, output, attributes in (
            ("Cast", [name], wide, {"to": TensorProto.DOUBLE}),
            ("Mul", [wide, "tf32/split"], scaled, {}),
            ("Sub", [scaled, wide], low, {}),
            ("Sub", [scaled, low], high, {}),
            ("Cast", [high], finite, {"to": FLOAT}),
            ("IsInf", [name], infinite, {}),
            ("Where", [infinite, name, finite], result, {}),
        ):
            self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return result


def to_tf32(values: np.ndarray) -> np.ndarray:
    """FP32 values rounded to nearest-even at 10 mantissa bits, with FP32's range."""
    bits = values.astype(np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1))) & np.uint32(0xFFFFE000)).view(
        np.float32
    )
    return np.where(np.isfinite(values), rounded, values)


@functools.cache
def canary() -> None:
    """Prove that the runtime executes the twin's roundings; :class:`CheckFailed` if it optimises them away.

    (300 * 300) / 300 is inf in FP16 and 300 in FP32; 1 + 2**-9 is 1 in BF16; 1 + 2**-12 is 1 in TF32.
    """
    from exporter.backends.onnxruntime import run, session

    for label, kind, build, want in (
        ("FP16", TensorProto.FLOAT16, _overflow, np.inf),
        ("BF16", TensorProto.BFLOAT16, _absorb(2.0**-9), 1.0),
        ("TF32", None, _absorb(2.0**-12), 1.0),
    ):
        got = float(
            run(session(twin(build(kind or FLOAT), tf32=kind is None)), {"x": np.array([[1.0]], np.float32)})["y"][0, 0]
        )
        if got != want:
            raise CheckFailed(
                f"ONNX Runtime does not execute the numerics twin's {label} rounding",
                stage="parity",
                found=got,
                expected=want,
                next="pip install -e . restores the pinned onnxruntime",
            )


def _graph(nodes: list, constants: dict[str, float], kind: int) -> onnx.ModelProto:
    value = functools.partial(helper.make_tensor_value_info, elem_type=kind, shape=[1, 1])
    weights = [narrowed(np.array([[v]], np.float32), kind, k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "canary", [value("x")], [value("y")], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def narrowed(values: np.ndarray, kind: int, name: str) -> TensorProto:
    """``values`` as a tensor of an ONNX type."""
    return numpy_helper.from_array(values.astype(helper.tensor_dtype_to_np_dtype(kind)), name)


def _overflow(kind: int) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Mul", ["x", "c"], ["a"]),
        helper.make_node("Mul", ["a", "c"], ["b"]),
        helper.make_node("Div", ["b", "c"], ["y"]),
    ]
    return _graph(nodes, {"c": 300.0}, kind)


def _absorb(small: float):
    def build(kind: int) -> onnx.ModelProto:
        nodes = [helper.make_node("Add", ["x", "c"], ["a"]), helper.make_node("MatMul", ["a", "one"], ["y"])]
        return _graph(nodes, {"c": small, "one": 1.0}, kind)

    return build
