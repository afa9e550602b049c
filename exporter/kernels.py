"""What the compiler emitted: the kernels in the detailed build log, their sizes, and the ONNX nodes inside each.

An engine holds one list of kernels for all its targets: measured with TensorRT-RTX 1.7, whose log has one
``Layers:`` section however many compute capabilities were asked for, equal to the section of each target built
alone up to generated names (only a build that includes sm75 differs, for all of its targets).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from math import prod

from exporter.errors import UsageError
from exporter.naming import block_of, path_of

NO_KERNEL = frozenset({"shape_call", "signal", "wait"})
"""Entries of the list that launch nothing: host arithmetic on shapes, and synchronisation between streams."""

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
        counts = Counter(block_of(path_of(node)) for node in self.nodes)
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


_LAYER = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<type>\w*), Inputs: \[(?P<inputs>.*?)\], Constants: "
    r"\[(?P<constants>.*?)\], Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>.*?), "
    r"StreamId: \d+, (?:EventIds?: .*?, )?Metadata: (?P<metadata>.*)$"
)
_TENSOR = re.compile(r"\{ Name: (.*?), Dimensions: \[([^\]]*)\], .*?Datatype: (\w+)")
_NODE = re.compile(r"\[ONNX Layer: (.*?)\]")


def parse(log: str) -> list[Kernel]:
    """The kernels of a build log made with ``ProfilingVerbosity.DETAILED``, in the order of the list.

    Raises :class:`UsageError` where the log has no such list or one that this version cannot read: a new compiler
    must not turn into a smaller count.
    """
    section = _section(log)
    kernels = [_kernel(line) for line in section]
    if not kernels:
        raise _unreadable("no kernels in the list")
    return [k for k in kernels if k.layer_type not in NO_KERNEL]


def _section(log: str) -> Iterator[str]:
    lines = iter(log.splitlines())
    for line in lines:
        if line.endswith(" Layers:") or line == "Layers:":
            break
    else:
        raise _unreadable("no list of layers")
    for line in lines:
        if line.startswith("I/O Tensors:"):
            return
        if line.strip():
            yield line


def _kernel(line: str) -> Kernel:
    found = _LAYER.match(line)
    if found is None:
        raise _unreadable(line[:160])
    name, layer_type = found["name"], found["type"]
    tensors = {k: tuple(_tensors(found[k])) for k in ("inputs", "outputs", "constants")}
    nodes = tuple(dict.fromkeys(_NODE.findall(found["metadata"])))
    return Kernel(name, layer_type, kind_of(name, layer_type), nodes=nodes, tactic=found["tactic"], **tensors)


def _tensors(text: str) -> Iterator[Tensor]:
    for name, sizes, kind in _TENSOR.findall(text):
        if kind not in BYTES:
            raise _unreadable(f"the type {kind} of {name}")
        yield Tensor(name, tuple(int(n) for n in sizes.split(",") if n), kind)


def _unreadable(found: str) -> UsageError:
    return UsageError(
        "the compiler's build log cannot be read",
        stage="compile",
        found=found,
        expected="the list of layers that TensorRT-RTX 1.7 writes at DETAILED profiling verbosity",
        next="pip install -e . restores the pinned compiler",
    )


def kind_of(name: str, layer_type: str) -> str:
    """Attention, matmul, convolution, copy, normalisation, softmax or pointwise; else the compiler's layer type."""
    words = set(re.findall(r"[A-Z][a-z]+", name.split("/")[-1]))
    if "mha" in name:
        return "attention"
    if "Corr" in words or layer_type in ("correlation", "conv"):
        return "convolution"
    if layer_type == "gemm" or "Fc" in words or "_gemm" in name:
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
