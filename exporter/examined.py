"""A graph under examination: run with any of its tensors as outputs, as the hardware would compute it.

A graph of narrow types runs as its numerics twin, whose tensors have the same names; any other runs as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporter import numerics, onnxio
from exporter.naming import path_of
from exporter.shapes import infer

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)


class Examined:
    """``tensors``: every float tensor that a node makes, in order, with the node that makes it."""

    def __init__(self, model: onnx.ModelProto, tf32: bool = False):
        self.kinds = infer(model).types
        self.narrow = any(self.kinds.get(name) in numerics.NARROW for node in model.graph.node for name in node.output)
        self.model = numerics.twin(model, tf32) if self.narrow or tf32 else model
        self.unrounded = numerics.twin(model, rounded=False) if self.narrow else model
        self.input = model.graph.input[0].name
        self.outputs = [value.name for value in model.graph.output]
        self.tensors = {name: n for n in model.graph.node for name in n.output if self.kinds.get(name) in FLOATS}
        wide = {helper.tensor_dtype_to_np_dtype(t.data_type).name for t in model.graph.initializer if t.dims}
        self.weights = next((kind for kind in ("bfloat16", "float16") if kind in wide), "float32")
        """The narrowest float type of its weights."""
        self.bare = dict(_bare(model))
        """The tensors that a LayerNormalization of scale 1 makes, and the one shift of all its channels."""
        axis = model.graph.input[0].type.tensor_type.shape.dim[0]
        self.batch = axis.dim_value or None
        """The only batch size that the graph takes, None where it is free."""

    def element_type(self, tensor: str) -> str:
        """The type that a tensor has in the graph: float32, float16 or bfloat16."""
        return helper.tensor_dtype_to_np_dtype(self.kinds[tensor]).name

    def paths(self) -> set[str]:
        """The module paths in the nodes' names."""
        return {path_of(node.name) for node in self.tensors.values()} - {""}

    def within(self, unit: str) -> list[str]:
        """The tensors that a unit's nodes make, its parts' included."""
        return [t for t, node in self.tensors.items() if _is_within(path_of(node.name), unit)]

    def sizes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor at a batch size, where it is known."""
        known = infer(self.model, None if self.batch else batch).shapes
        return {name: known[name] for name in self.tensors if known.get(name) and -1 not in known[name]}

    def runner(self, tensors: Iterable[str], rounded: bool = True):
        """``run(pixels) -> {name: FP32 array}`` for these tensors and the graph's own outputs.

        Without ``rounded`` as mathematics has it: of narrow types only the weights' rounding is left.
        """
        from exporter.backends.onnxruntime import run, session

        shell, arrays = onnxio.detach(self.model if rounded else self.unrounded)
        present = set(self.outputs)
        for name in tensors:
            if name not in present:
                present.add(name)
                shell.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        made = session(shell, arrays, once=True)
        return lambda pixels: run(made, {self.input: pixels})

    def chunks(self, pixels: np.ndarray, batch: int) -> Sequence[np.ndarray]:
        """``pixels`` in batches of one size; the last one is filled up with rows from the front."""
        size = self.batch or batch
        rows = np.arange(-(-len(pixels) // size) * size) % len(pixels)
        return [pixels[rows[i : i + size]] for i in range(0, len(rows), size)]


def _bare(model: onnx.ModelProto) -> Iterator[tuple[str, float]]:
    """What :mod:`exporter.rewrites.absorb_query_biases` leaves of a LayerNormalization."""
    vectors = {t.name: t for t in model.graph.initializer if len(t.dims) == 1}
    for node in model.graph.node:
        if node.op_type == "LayerNormalization" and len(node.input) == 3 and set(node.input[1:]) <= vectors.keys():
            scale, shift = (numpy_helper.to_array(vectors[name]).astype(np.float32) for name in node.input[1:])
            if scale.size and shift.size and (scale == 1).all() and (shift == shift[0]).all():
                yield node.output[0], float(shift[0])


def _is_within(path: str, unit: str) -> bool:
    return path == unit or path.startswith(f"{unit}.")
