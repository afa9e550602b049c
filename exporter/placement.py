"""Where a graph may be quantised: products with a weight, and products of two activations (attention).

A product whose activations have one row an image, as a classifier's has, is no work worth its rounding and is left.
Convolutions are left as well: TensorRT-RTX 1.7 computes an INT8 convolution into FP32 and fuses nothing into it, so
that it moves more bytes than the FP16 one (540 MB against 443 MB for two layers of a transformer's MLP, sm80).
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass, replace

import onnx
from onnx import TensorProto

from exporter import onnxio
from exporter.keeping import MOVES
from exporter.naming import block_of, inside, path_of
from exporter.shapes import infer


@dataclass(frozen=True)
class Product:
    """``output = activation @ weight``, or ``weight @ activation`` (``left``, :mod:`exporter.rewrites.token_mixing`).

    ``planes`` of several weights are multiplied by the same rows at once.

    ``straight``: its result goes to products of two activations with nothing but movement in between, as that of an
    attention's projection without a bias does. ``paired``: its result is rounded to 8 bits, too.
    """

    node: str
    activation: str
    weight: str
    output: str
    planes: bool
    straight: bool = False
    paired: bool = True
    left: bool = False

    @property
    def block(self) -> str:
        return block_of(path_of(self.node))


@dataclass(frozen=True)
class Placement:
    """``operands``: (node, input, tensor) of the products of two activations; ``left``: why others stay, by node."""

    products: tuple[Product, ...]
    operands: tuple[tuple[str, int, str], ...]
    left: dict[str, str]

    def ranged(self, known: Container[str]) -> Placement:
        """Only what has a range: a tensor that was all zero on the calibration images has none."""
        why = "its activations are all zero on the calibration images"
        products = tuple(p for p in self.products if p.activation in known and (p.output in known or not p.paired))
        operands = tuple(o for o in self.operands if o[2] in known)
        dropped = [p.node for p in self.products if p not in products]
        dropped += [node for node, _, name in self.operands if name not in known]
        return Placement(products, operands, self.left | dict.fromkeys(dropped, why))

    def products_only(self) -> Placement:
        """The same with attention's own products in 16 bits, and what goes straight to them: a product of 8 bits that
        reads 16-bit numbers rounded to 8 is fused with no attention in FP8, nor between BF16 tensors."""
        return replace(self, products=tuple(replace(p, paired=not p.straight) for p in self.products), operands=())

    def outside(self, modules: Collection[str]) -> Placement:
        """The same with nothing in ``modules``, which the recipe keeps out."""
        there = {p.node for p in self.products if inside(path_of(p.node), modules) is not None}
        return Placement(
            tuple(p for p in self.products if p.node not in there),
            tuple(o for o in self.operands if inside(path_of(o[0]), modules) is None),
            self.left | dict.fromkeys(sorted(there), "the recipe keeps its module wider"),
        )

    def without(self, blocks: frozenset[str]) -> Placement:
        """The same with nothing in ``blocks``."""
        kept = {p.node: "its block loses more than it saves" for p in self.products if p.block in blocks}
        return Placement(
            tuple(p for p in self.products if p.block not in blocks),
            tuple(o for o in self.operands if block_of(path_of(o[0])) not in blocks),
            self.left | kept,
        )


def find(model: onnx.ModelProto) -> Placement:
    """Every place of an FP32 graph, in its order."""
    shapes = infer(model, 1).shapes
    weights = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
    big = {t.name: tuple(t.dims) for t in model.graph.initializer if onnxio.nbytes(t) > onnxio.LARGE}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for output in model.graph.output:
        readers.setdefault(output.name, []).append(onnx.NodeProto(op_type="Output"))
    products, operands, left = [], [], {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "ConvTranspose"):
            left[node.name] = f"{node.op_type} is not quantised"
        if node.op_type != "MatMul":
            continue
        if not any(name in weights for name in node.input):
            operands += [(node.name, i, name) for i, name in enumerate(node.input)]
            continue
        found = _product(node, shapes, weights, big)
        if isinstance(found, str):
            left[node.name] = found
        else:
            products.append(replace(found, straight=_straight(found.output, readers, weights)))
    return Placement(tuple(products), tuple(operands), left)


def _product(
    node: onnx.NodeProto, shapes: Mapping, weights: Container[str], big: Mapping[str, tuple[int, ...]]
) -> Product | str:
    """A MatMul with a weight as a product, or why it stays."""
    from_left = node.input[1] not in weights
    activation, weight = reversed(node.input) if from_left else node.input
    dims, shape = big.get(weight, ()), shapes.get(activation) or (1,)
    if len(dims) not in ((2,) if from_left else (2, 3)):
        return "its weight is no matrix"
    if (shape[-1] if from_left else max(shape[:-1], default=1)) <= 1:
        return "one row an image is no work"
    return Product(node.name, activation, weight, node.output[0], len(dims) == 3 and dims[0] > 1, left=from_left)


def _straight(name: str, readers: dict[str, list[onnx.NodeProto]], weights: Container[str]) -> bool:
    """Whether only products of two activations read a tensor, or what moves it."""
    found = readers.get(name, [])
    return bool(found) and all(
        all(_straight(out, readers, weights) for out in node.output)
        if node.op_type in MOVES
        else node.op_type == "MatMul" and not any(i in weights for i in node.input)
        for node in found
    )
