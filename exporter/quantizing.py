"""FP32 graph -> the same with QuantizeLinear and DequantizeLinear (Q/DQ) where a placement says so.

Symmetric, zero point 0, one scale a tensor: that of a column is multiplied behind the product
(:mod:`exporter.rewrites.balance_channels`). Around each product with a weight: Q/DQ on the activations, the weight as
8-bit numbers behind a DequantizeLinear, Q/DQ on the result *before* its norms and bias. The last is what makes
TensorRT's INT8 product write 8 bits: it has no epilogue, so whatever stands between product and Q is another kernel
that reads 16 bits. Measured with TensorRT-RTX 1.7, Swin-T at batch 32 on sm80: 3151 MB without it, 2108 with it
(FP16: 2791).

Scales are rounded to the 16-bit type that they will be stored in before anything is quantised by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporter.keeping import MOVES
from exporter.placement import Placement, Product
from exporter.types import Precision

LARGEST = {"int8": 127.0, "float8_e4m3fn": 448.0}
KINDS = {"int8": TensorProto.INT8, "float8_e4m3fn": TensorProto.FLOAT8E4M3FN}


@dataclass(frozen=True)
class Quantized:
    """What was quantised: nodes whose operands are 8 bits wide, and the number of Q/DQ pairs on activations."""

    nodes: tuple[str, ...]
    pairs: int


def rows(placement: Placement) -> frozenset[str]:
    """The tensors whose channels are rows: results of products with the weight on the left."""
    return frozenset(p.output for p in placement.products if p.left)


def tensors(placement: Placement) -> list[str]:
    """The activations that a placement quantises, each once: those whose ranges are needed."""
    names = [name for p in placement.products for name in (p.activation, p.output)[: 1 + p.paired]]
    return list(dict.fromkeys(names + [name for _, _, name in placement.operands]))


def quantize(
    model: onnx.ModelProto, placement: Placement, amax: Mapping[str, float], precision: Precision
) -> Quantized:
    """Insert the Q/DQ in place; ``amax`` is the clipping range of each of :func:`tensors`."""
    writer = _Writer(model, amax, precision)
    by_node = {p.node: p for p in placement.products}
    operands = {(node, i) for node, i, _ in placement.operands}
    for node in list(model.graph.node):
        if node.name in by_node:
            writer.product(node, by_node[node.name])
            continue
        for i, name in enumerate(node.input):
            if (node.name, i) in operands:
                node.input[i] = writer.activation(name)
        writer.moved(node)
        writer.nodes.append(node)
    writer.finish()
    quantized = dict.fromkeys([*by_node, *(node for node, _ in operands)])
    return Quantized(tuple(quantized), len(writer.done))


class _Writer:
    """Writes the graph's nodes anew, in order."""

    def __init__(self, model: onnx.ModelProto, amax: Mapping[str, float], precision: Precision):
        self.graph = model.graph
        self.amax = amax
        self.kind = KINDS[precision.quantized]
        self.largest = LARGEST[precision.quantized]
        self.stored_as = ml_dtypes.finfo(precision.element_type)
        self.weights = {t.name: t for t in model.graph.initializer}
        self.constants: dict[str, TensorProto] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.done: dict[str, str] = {}
        self.narrow: set[str] = set()
        """Tensors whose values are 8-bit numbers already: results of a pair, and what moves them."""

    def product(self, node: onnx.NodeProto, at: Product) -> None:
        node.input[int(at.left)] = self.activation(at.activation)
        node.input[1 - at.left] = self.weight(at.weight)
        if not at.paired:
            self.nodes.append(node)
            return
        node.output[0] = f"{at.output}/sums"
        self.nodes.append(node)
        self._pair(node.output[0], at.output, self.scale(self.amax[at.output]), at.output)

    def activation(self, name: str) -> str:
        """``name`` behind a Q/DQ of its own range, made once; itself where its values went through one."""
        if name in self.narrow:
            return name
        if name not in self.done:
            self.done[name] = f"{name}/quantized"
            self._pair(name, self.done[name], self.scale(self.amax[name]), name)
        return self.done[name]

    def moved(self, node: onnx.NodeProto) -> None:
        """What only moves 8-bit numbers gives 8-bit numbers."""
        if node.op_type in MOVES and node.input[0] in self.narrow:
            self.narrow.update(node.output)

    def weight(self, name: str) -> str:
        """The weight as 8-bit numbers behind a DequantizeLinear, made once."""
        if name not in self.done:
            values = numpy_helper.to_array(self.weights[name])
            scale = self.scale(float(np.abs(values).max()))
            self._constant(f"{name}/numbers", self.rounded(values / scale))
            self._constant(f"{name}/scale", np.array(scale, np.float32))
            self._dequantize(f"{name}/numbers", f"{name}/scale", f"{name}/weight")
            self.done[name] = f"{name}/weight"
        return self.done[name]

    def scale(self, amax: float) -> np.float32:
        """amax over the type's largest number, as the 16-bit type has it: never a subnormal."""
        kind = self.stored_as.dtype
        return np.float32(kind.type(max(amax / self.largest, float(self.stored_as.smallest_normal))))

    def rounded(self, values: np.ndarray) -> np.ndarray:
        kind = helper.tensor_dtype_to_np_dtype(self.kind)
        values = np.clip(values, -self.largest, self.largest)
        return (np.rint(values) if self.kind == TensorProto.INT8 else values).astype(kind)

    def _pair(self, source: str, result: str, scale: np.float32, name: str) -> None:
        scales, narrow = f"{name}/scale", f"{name}/q"
        self._constant(scales, np.array(scale, np.float32))
        inputs = [source, scales, self._zero()]
        self.nodes.append(helper.make_node("QuantizeLinear", inputs, [narrow], name=f"{name}/QuantizeLinear"))
        self._dequantize(narrow, scales, result)
        self.narrow.add(result)

    def _dequantize(self, narrow: str, scale: str, result: str) -> None:
        inputs = [narrow, scale, self._zero()]
        name = f"{result}/DequantizeLinear"
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [result], name=name))

    def _zero(self) -> str:
        """The zero point, whose type says what the 8 bits are."""
        name = "quantized/zero"
        if name not in self.constants:
            self._constant(name, np.zeros((), helper.tensor_dtype_to_np_dtype(self.kind)))
        return name

    def _constant(self, name: str, values: np.ndarray) -> None:
        self.constants[name] = numpy_helper.from_array(values, name)

    def finish(self) -> None:
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        kept = [t for t in self.graph.initializer if t.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend([*kept, *self.constants.values()])
