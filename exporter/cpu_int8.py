"""An 8-bit graph as ONNX Runtime's CPU kernels want it: a variant for the CPU alone, nothing that TensorRT gets.

TensorRT writes a product in 8 bits and multiplies by a number for each column behind it. ONNX Runtime's
``MatMulIntegerToFloat`` (domain ``com.microsoft``) takes a scale for each column of the weights, adds the bias and
writes FP32 in one pass: the result's Q/DQ go, and the columns' numbers move into the weights' scales. Activations are
unsigned with 128 as their zero, which is what its kernels are written for. Products of two activations, attention's
own, are FP32 again: quantising them costs a CPU more than they take.

A weight on the left (:mod:`exporter.rewrites.token_mixing`) is multiplied from the right, where the kernels want it:
its activation's bytes are transposed before, its result after.

Without VNNI the kernels add two products of an unsigned and a signed byte in 16 bits, which overflow: weights keep
7 bits there (255 x 64 x 2 < 2^15), as ONNX Runtime's documentation advises (``reduce_range``).
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
from onnx import helper, numpy_helper

from exporter import widening
from exporter.shapes import infer

DOMAIN = "com.microsoft"
ZERO = "quantized/unsigned_zero"


def adapt(model: onnx.ModelProto, seven_bits: bool) -> dict[str, int]:
    """Make FP32 of 16 bits and move Q/DQ, in place; returns ``columns`` moved and ``unquantised`` operands.

    The results of products are no longer rounded; their inputs keep 8 bits, weights too unless ``seven_bits``.
    """
    widening.widen(model)
    edit = _Edit(model, seven_bits)
    counts = {"columns": 0, "unquantised": 0}
    for product in [n for n in model.graph.node if n.op_type == "MatMul"]:
        sides = [i for i in (1, 0) if edit.weight(product, i) is not None]
        if not sides:
            counts["unquantised"] += edit.unquantise(product)
        else:
            counts["columns"] += edit.move_columns(product, sides[0])
    edit.done()
    if counts["columns"]:
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return counts


class _Edit:
    """One pass over a graph; nodes that are taken out are dropped at the end."""

    def __init__(self, model: onnx.ModelProto, seven_bits: bool):
        self.model = model
        self.shapes = infer(model, 1).shapes
        self.seven_bits = seven_bits
        self.values = {t.name: t for t in model.graph.initializer}
        self.producers = {name: node for node in model.graph.node for name in node.output}
        self.consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self.consumers[name].append(node)
        self.outputs = {value.name for value in model.graph.output}
        self.dropped: list[onnx.NodeProto] = []
        self.added: list[onnx.TensorProto] = []
        self.unsigned_by: dict[str, tuple[onnx.NodeProto, onnx.NodeProto]] = {}
        self.transposed: dict[int, tuple[onnx.NodeProto, onnx.NodeProto]] = {}
        """Before and behind a product, by its id."""

    def weight(self, product: onnx.NodeProto, side: int) -> onnx.NodeProto | None:
        """The DequantizeLinear of constant 8-bit numbers, one scale for all, that the product reads; else None."""
        made = self.producers.get(product.input[side])
        if made is None or made.op_type != "DequantizeLinear" or made.input[0] not in self.values:
            return None
        return made if not self.values[made.input[1]].dims and len(self.consumers[made.output[0]]) == 1 else None

    def only_reader(self, name: str, op: str) -> onnx.NodeProto | None:
        readers = self.consumers[name]
        return readers[0] if len(readers) == 1 and readers[0].op_type == op and name not in self.outputs else None

    def move_columns(self, product: onnx.NodeProto, side: int) -> bool:
        """MatMul, Q, DQ, Mul by a number for each column, Add of a bias -> one product with scales for the columns.

        ``side``: which input the weight is; of one on the left, a column is a row.
        """
        node, chain, weight = product, [], self.weight(product, side)
        for op in ("QuantizeLinear", "DequantizeLinear", "Mul"):
            node = self.only_reader(node.output[0], op)
            if node is None:
                return False
            chain.append(node)
        columns = self.values.get(chain[-1].input[1])
        matrix = numpy_helper.to_array(self.values[weight.input[0]])
        matrix = matrix if side else matrix.T
        dims = [matrix.shape[-1]] if side else [matrix.shape[-1], 1]
        rank = len(self.shapes.get(product.output[0]) or ())
        if columns is None or list(columns.dims) != dims or (not side and not rank):
            return False
        quantise = self.quantised(product, 1 - side)
        if quantise is None:
            return False
        scale = numpy_helper.to_array(self.values[weight.input[1]]) * numpy_helper.to_array(columns).reshape(-1)
        # a scale is positive: a column's sign goes into its numbers
        numbers = matrix * np.where(scale < 0, -1, 1).astype(np.int8)
        if self.seven_bits:
            numbers, scale = np.rint(numbers / 2).astype(np.int8), 2 * scale
        inputs = [self.unsigned(quantise), self.constant(f"{weight.name}/numbers", numbers), quantise.input[1],
                  self.constant(f"{weight.name}/scales", np.abs(scale).astype(np.float32)), ZERO, ""]  # fmt: skip
        add = self.only_reader(node.output[0], "Add")
        biases = [n for n in (add.input if add else ()) if n in self.values and list(self.values[n].dims) == dims]
        if biases:
            chain.append(add)
            if not side:
                biases = [self.constant(f"{biases[0]}/row", numpy_helper.to_array(self.values[biases[0]]).reshape(-1))]
        self.dropped += chain
        result = chain[-1].output[0]
        if not side:
            inputs[0], result = self.transpose(product, inputs[0], result, rank)
        product.op_type, product.domain = "MatMulIntegerToFloat", DOMAIN
        product.output[0] = result
        del product.input[:]
        product.input.extend([*inputs, *biases] if biases else inputs[:-1])
        return True

    def transpose(self, product: onnx.NodeProto, source: str, result: str, rank: int) -> tuple[str, str]:
        """What the product is to read and to make, where a Transpose stands before it and one behind."""
        perm = [*range(rank - 2), rank - 1, rank - 2]
        before, behind = (
            helper.make_node("Transpose", [name], [other], name=f"{product.name}/{where}", perm=perm)
            for name, other, where in (
                (source, f"{product.name}/turned", "before"),
                (f"{product.name}/made", result, "behind"),
            )
        )
        self.transposed[id(product)] = before, behind
        return before.output[0], behind.input[0]

    def quantised(self, product: onnx.NodeProto, index: int) -> onnx.NodeProto | None:
        """The QuantizeLinear behind one of the product's operands."""
        back = self.producers.get(product.input[index])
        there = self.producers.get(back.input[0]) if back is not None and back.op_type == "DequantizeLinear" else None
        return there if there is not None and there.op_type == "QuantizeLinear" else None

    def unsigned(self, quantise: onnx.NodeProto) -> str:
        """The same numbers as unsigned bytes, 128 more."""
        name = f"{quantise.output[0]}/unsigned"
        if name not in self.unsigned_by:
            self.constant(ZERO, np.array(128, np.uint8))
            inputs = [*quantise.input[:2], ZERO]
            node = helper.make_node("QuantizeLinear", inputs, [name], name=f"{quantise.name}/unsigned")
            self.unsigned_by[name] = (quantise, node)
        return name

    def constant(self, name: str, array: np.ndarray) -> str:
        if name not in self.values:
            self.values[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
            self.added.append(self.values[name])
        return name

    def unquantise(self, product: onnx.NodeProto) -> int:
        """A product of activations reads what was quantised instead."""
        count = 0
        for index in range(2):
            if (quantise := self.quantised(product, index)) is not None:
                product.input[index] = quantise.input[0]
                count += 1
        return count

    def done(self) -> None:
        """Drop what nobody reads any more."""
        graph = self.model.graph
        graph.initializer.extend(self.added)
        gone = {id(node) for node in self.dropped}
        beside = {id(quantise): node for quantise, node in self.unsigned_by.values()}
        nodes = []
        for node in graph.node:
            before, behind = self.transposed.get(id(node), (None, beside.get(id(node))))
            nodes += [n for n in (before, node, behind) if n is not None]
        kept = [node for node in nodes if id(node) not in gone]
        while True:
            read = self.outputs | {name for node in kept for name in node.input}
            still = [node for node in kept if any(name in read for name in node.output)]
            if len(still) == len(kept):
                break
            kept = still
        copy = onnx.GraphProto(node=kept, initializer=[t for t in graph.initializer if t.name in read])
        del graph.node[:], graph.initializer[:]
        graph.node.extend(copy.node)
        graph.initializer.extend(copy.initializer)
