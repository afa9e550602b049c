"""Which nodes of a narrow graph compute in FP32, and why.

Sums and powers do where the precision says so; operators that ONNX does not define for the type (Einsum has no BF16);
what was seen to leave the type's range on real images; nodes with a constant that the type does not have; what carries
such a constant's values on; the elementwise steps between two nodes that stay, whose large intermediates would pass
through the narrow type after all; and the steps by whose results an ArgMin or ArgMax tells near values apart.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from exporter.naming import block_of, inside, part_of, path_of
from exporter.types import Precision

MOVES = frozenset(
    "Reshape Transpose Squeeze Unsqueeze Flatten Identity Slice Split Concat Gather GatherND GatherElements Expand "
    "Tile Pad DepthToSpace SpaceToDepth".split()
)
"""Operators that move values and change none: they take the type of what they move."""

FIXED_FLOAT_INPUTS = {"Resize": (1, 2), "Range": (0, 1, 2)}
"""Inputs that the standard types as float whatever the data's type is."""

ELEMENTWISE = frozenset("Add Sub Mul Div Neg Abs Max Min Clip Where Relu".split())

DECIDE = frozenset({"ArgMin", "ArgMax"})

CARRY_LARGE = MOVES | ELEMENTWISE
CARRY_SMALL = MOVES | {"Add", "Max", "Clip", "Where", "Sqrt"}
"""Operators whose result is beyond the type where an operand is: a mask of -3.4e38, or a guard of 1e-12."""

READERS = MOVES | ELEMENTWISE | {"Softmax", "LogSoftmax"}
"""Operators that give another result where an operand became infinite or 0: Inf - Inf and 0 / 0 are NaN."""


def kept(
    model: onnx.ModelProto,
    precision: Precision,
    types: dict[str, int],
    beyond: Mapping[str, str] | None = None,
    islands: Collection[str] = (),
    wide: Collection[str] = (),
) -> dict[str, str]:
    """The nodes of an FP32 graph, in topological order, that stay in FP32, by name, with the reason.

    ``types`` are the element types of its tensors; nodes that no float enters or leaves stay what they are. ``beyond``
    says why tensors were seen to leave the type's range (:mod:`exporter.probe`): who makes and who reads them stays.
    ``islands`` are blocks and parts of blocks that stay whole, ``wide`` modules that do.
    """
    beyond = beyond or {}
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), None)
    nodes = [n for n in model.graph.node if any(_is_float(name, types) for name in (*n.input, *n.output))]
    found = {}
    for node in nodes:
        path = path_of(node.name)
        if (island := next((p for p in (block_of(path), part_of(path)) if p in islands), None)) is not None:
            found[node.name] = f"{island} is an island in FP32, for the error's sake"
        elif (module := inside(path, wide)) is not None:
            found[node.name] = f"{module} computes in FP32 around {precision.element_type}, by the recipe"
        elif node.domain in ("", "ai.onnx") and not _defined(node.op_type, opset, precision.element_type):
            found[node.name] = f"ONNX defines no {node.op_type} of {precision.element_type}"
        elif node.op_type in precision.keep_fp32:
            found[node.name] = f"{node.op_type} sums or powers in FP32"
        elif node.op_type == "Mul" and len(set(node.input)) == 1 and precision.keep_fp32:
            found[node.name] = "a square in FP32"
        for name in (*node.output, *node.input):
            if name in beyond:
                found[node.name] = beyond[name]
    _keep_readers(nodes, _constants(model), precision.element_type, found)
    _keep_between(nodes, types, found)
    _keep_decisive(nodes, types, precision, found)
    return found


def _is_float(name: str, types: dict[str, int]) -> bool:
    return types.get(name) == TensorProto.FLOAT


@functools.cache
def _defined(op_type: str, opset: int, element_type: str) -> bool:
    """Whether the standard lets the operator compute in a type in which it does compute in FP32."""
    narrow = {"float16": "tensor(float16)", "bfloat16": "tensor(bfloat16)"}[element_type]
    fixed = FIXED_FLOAT_INPUTS.get(op_type, ())
    formal = onnx.defs.get_schema(op_type, opset, "").inputs
    takes = [set(f.types) for i, f in enumerate(formal) if i not in fixed]
    return all(narrow in types for types in takes if "tensor(float)" in types)


def _constants(model: onnx.ModelProto) -> Iterator[tuple[str, np.ndarray]]:
    """The float constants of a graph by name: initializers, and what nodes hold as an attribute."""
    tensors = [(t.name, t) for t in model.graph.initializer]
    tensors += [
        (n.output[0], a.t) for n in model.graph.node for a in n.attribute if a.name == "value" and a.HasField("t")
    ]
    return ((name, numpy_helper.to_array(t)) for name, t in tensors if t.data_type == TensorProto.FLOAT)


def _keep_readers(nodes: list, constants: Iterator, element_type: str, found: dict[str, str]) -> None:
    """Keep every node with a constant that the type does not have, and what reads such values further on."""
    large, small = {}, {}
    for name, values in constants:
        large |= {name: why} if (why := too_large(values, element_type)) else {}
        small |= {name: why} if (why := too_small(values, element_type)) else {}
    direct = large.keys() | small.keys()
    for node in nodes:
        for beyond, carriers in ((large, CARRY_LARGE), (small, CARRY_SMALL)):
            read = [name for name in node.input if name in beyond]
            if read and (node.op_type in READERS or direct & set(read)):
                found.setdefault(node.name, beyond[read[0]])
            if read and node.op_type in carriers:
                beyond |= dict.fromkeys(node.output, beyond[read[0]])


def too_large(values: np.ndarray, element_type: str) -> str | None:
    """Why constants cannot be written in a type: a finite value beyond its range."""
    largest, limit = np.abs(values[np.isfinite(values)]).max(initial=0), float(ml_dtypes.finfo(element_type).max)
    return f"a constant of {largest:.3g}, {element_type} ends at {limit:.5g}" if largest > limit else None


def too_small(values: np.ndarray, element_type: str) -> str | None:
    """Why a guard cannot be written in a type: a scalar below its normal numbers. Inside a weight they are rounded."""
    smallest = float(ml_dtypes.finfo(element_type).smallest_normal)
    if values.size == 1 and 0 < (value := abs(values.item())) < smallest:
        return f"a constant of {value:.3g}, {element_type} begins at {smallest:.2g}"
    return None


def _keep_between(nodes: list, types: dict[str, int], found: dict[str, str]) -> None:
    """Keep elementwise steps on every path between two nodes that stay; moving values in between ends no path."""
    producer = {name: node for node in nodes for name in node.output}
    consumers = defaultdict(list)
    for node in nodes:
        for name in node.input:
            consumers[name].append(node)
    after = set(found)
    for node in nodes:
        sources = [producer[name] for name in node.input if name in producer and _is_float(name, types)]
        if node.op_type in MOVES | ELEMENTWISE and sources and all(s.name in after for s in sources):
            after.add(node.name)
    before = set(found)
    for node in reversed(nodes):
        if node.name in after and any(user.name in before for name in node.output for user in consumers[name]):
            before.add(node.name)
            if node.op_type in ELEMENTWISE:
                found.setdefault(node.name, "between two nodes in FP32")


def _keep_decisive(nodes: list, types: dict[str, int], precision: Precision, found: dict[str, str]) -> None:
    """Keep what an ArgMin or ArgMax decides by, back to where matrix products or anything else made it."""
    steps = MOVES | ELEMENTWISE | precision.keep_fp32
    decisive: set[str] = set()
    for node in reversed(nodes):
        if node.op_type in DECIDE or (node.op_type in steps and decisive & set(node.output)):
            found.setdefault(node.name, "the nearest of near values is told in FP32")
            decisive |= {name for name in node.input if _is_float(name, types)}
