"""What the compiler emitted: kernels, their sizes and FLOPs, the ONNX nodes inside each, the attention they fuse.

An engine holds one list of kernels for all its targets: measured with TensorRT-RTX 1.7, whose log has one
``Layers:`` section however many compute capabilities were asked for, equal to the section of each target built
alone up to generated names (only a build that includes sm75 differs, for all of its targets).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from math import prod

from exporter.naming import block_of, path_of

BYTES = {
    "Float": 4,
    "Half": 2,
    "BFloat16": 2,
    "Int8": 1,
    "UInt8": 1,
    "Bool": 1,
    "Int32": 4,
    "Int64": 8,
    "FP8": 1,
    "FP4": 0.5,
    "Int4": 0.5,
}

COPIES = frozenset("Cast Resh Tran Move Slic Conc Repl Gath Padd Pad Resi Unsq Sque".split())
"""Steps in a generated kernel's name that only move or convert values."""

MATRIX_KINDS = ("attention", "matmul", "convolution")


@dataclass(frozen=True)
class Tensor:
    """An operand of a kernel; an axis of -1 is free in the profile, and then ``bytes`` is None."""

    name: str
    shape: tuple[int, ...]
    type: str

    @property
    def bytes(self) -> int | None:
        return None if -1 in self.shape else int(prod(self.shape) * BYTES[self.type])

    def as_dict(self) -> dict:
        return {"name": self.name, "shape": list(self.shape), "type": self.type, "bytes": self.bytes}

    @staticmethod
    def from_dict(data: Mapping) -> Tensor:
        return Tensor(data["name"], tuple(data["shape"]), data["type"])


@dataclass(frozen=True)
class Kernel:
    """One launch. ``nodes`` are the ONNX nodes in it; ``flops`` those of the matrix products among them."""

    name: str
    layer_type: str
    kind: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    nodes: tuple[str, ...]
    tactic: str
    flops: int = 0

    @property
    def bytes(self) -> int | None:
        """Bytes read and written, each operand once; None where a size is free in the profile."""
        sizes = [t.bytes for t in (*self.inputs, *self.outputs, *self.constants)]
        return None if None in sizes else sum(sizes)

    @property
    def block(self) -> str:
        """The block that most of its nodes are of, the first one where two tie."""
        return self.mostly(block_of)

    def mostly(self, of: Callable[[str], str]) -> str:
        """What ``of`` makes of the module paths of most of its nodes, of the first ones where two tie; '' of none."""
        counts = Counter(of(path_of(node)) for node in self.nodes)
        return counts.most_common(1)[0][0] if counts else ""

    @property
    def math_type(self) -> str:
        """The type of what it multiplies or adds: of its widest-read operand."""
        operands = [*self.inputs, *self.constants] or list(self.outputs)
        return max(operands, key=lambda t: prod(abs(n) for n in t.shape)).type if operands else "Float"

    def as_dict(self) -> dict:
        tensors = {k: [t.as_dict() for t in getattr(self, k)] for k in ("inputs", "outputs", "constants")}
        return {
            "name": self.name,
            "kind": self.kind,
            "layer_type": self.layer_type,
            "block": self.block,
            "bytes": self.bytes,
            "flops": self.flops,
            **tensors,
            "nodes": list(self.nodes),
            "tactic": self.tactic,
        }

    @staticmethod
    def from_dict(data: Mapping) -> Kernel:
        """The kernel that ``as_dict`` wrote."""
        sides = {k: tuple(map(Tensor.from_dict, data[k])) for k in ("inputs", "outputs", "constants")}
        told = {k: data[k] for k in ("name", "layer_type", "kind", "tactic", "flops")}
        return Kernel(**told, **sides, nodes=tuple(data["nodes"]))


def kind_of(name: str, layer_type: str) -> str:
    """Attention, matmul, convolution, copy, normalisation, softmax or pointwise; else the compiler's layer type."""
    words = set(re.findall(r"[A-Z][a-z]+", name.split("/")[-1]))
    if "mha" in name:
        return "attention"
    if "Corr" in words or layer_type == "correlation" or "conv" in layer_type.lower():
        return "convolution"
    if "Fc" in words or "_gemm" in name or re.search("gemm|matrixmultiply", layer_type.lower()):
        return "matmul"
    if layer_type not in ("kgen", "runtime_fusion"):
        return layer_type
    if words <= COPIES:
        return "copy"
    if words & {"Mean", "Sqrt", "Rsqr"}:
        return "normalisation"
    return "softmax" if {"Exp", "Sum"} <= words else "pointwise"


def with_flops(kernels: list[Kernel], flops: Mapping[str, int]) -> list[Kernel]:
    """The kernels with each matrix product's FLOPs given to the kernel that computes it.

    A node may be named by several kernels, such as one that only transposes its input: the matrix kernels among
    them share its FLOPs.
    """
    users: dict[str, list[int]] = {}
    for index, kernel in enumerate(kernels):
        for node in kernel.nodes:
            if node in flops:
                users.setdefault(node, []).append(index)
    given: Counter[int] = Counter()
    for node, all_users in users.items():
        those = [i for i in all_users if kernels[i].kind in MATRIX_KINDS] or all_users[:1]
        for i in those:
            given[i] += flops[node] // len(those)
    return [Kernel(**{**vars(k), "flops": given[i]}) for i, k in enumerate(kernels)]


def fused_attention(kernels: Iterable[Kernel], softmaxes: Iterable[str]) -> tuple[list[str], list[str]]:
    """(fused, unfused) attention blocks: those whose Softmax lies in one kernel with its matrix products, or not.

    ``softmaxes`` are the names of the graph's Softmax (or Attention) nodes.
    """
    inside = {node for k in kernels if k.kind == "attention" for node in k.nodes}
    fused, unfused = [], []
    for name in softmaxes:
        (fused if name in inside else unfused).append(name)
    return fused, unfused


@dataclass(frozen=True)
class Totals:
    """One engine's figures; bytes and FLOPs at the profile's optimum."""

    count: int
    fused_attention: int
    bytes_moved: int
    flops: int

    def as_dict(self) -> dict:
        return asdict(self)


def totals(engine: list[Kernel], sized: list[Kernel], softmaxes: Iterable[str]) -> Totals:
    """``engine``: the kernels of the engine; ``sized``: the same graph compiled at the profile's static optimum."""
    return Totals(
        len(engine),
        len(fused_attention(engine, softmaxes)[0]),
        sum(k.bytes for k in sized),
        sum(k.flops for k in sized),
    )
