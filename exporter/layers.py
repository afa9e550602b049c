"""Reads the list of layers that a compiler leaves: TensorRT-RTX in its detailed build log, TensorRT in its inspector.

Both name the same facts. A list of another form is an error: a new compiler must not turn into a smaller count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from exporter.errors import UsageError
from exporter.kernels import BYTES, Kernel, Tensor, kind_of

NO_KERNEL = frozenset({"shape_call", "signal", "wait"})
"""Entries of the list that launch nothing: host arithmetic on shapes, and synchronisation between streams."""

NUMBER_TYPES = frozenset({"reshape", "cast"})
"""Entries that make one number on the host, where they read nothing else: see :func:`launched`."""

_LAYER = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<type>\w*), Inputs: \[(?P<inputs>.*?)\], Constants: "
    r"\[(?P<constants>.*?)\], Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>.*?), "
    r"StreamId: \d+, (?:EventIds?: .*?, )?Metadata: (?P<metadata>.*)$"
)
_TENSOR = re.compile(r"\{ Name: (.*?), Dimensions: \[([^\]]*)\], .*?Datatype: (\w+)")
_NODE = re.compile(r"\[ONNX Layer: (.*?)\]")


def parse(log: str) -> list[Kernel]:
    """The kernels of a build log made with ``ProfilingVerbosity.DETAILED``, in the order of the list.

    Raises :class:`UsageError` where the log has no such list or one that this version cannot read.
    """
    section = _section(log)
    kernels = [_kernel(line) for line in section]
    if not kernels:
        raise _unreadable("no kernels in the list")
    return launched(kernels)


def launched(entries: list[Kernel]) -> list[Kernel]:
    """What runs on the device: all but NO_KERNEL and the host's numbers.

    Where a free batch decides where a part of a tensor begins, TensorRT-RTX 1.7 lists a ``reshape`` that reads nothing
    and makes one Int64, and a ``cast`` of it to a variable of the host (``hvar^53410i64``), neither with a tactic.
    """
    numbers: set[str] = set()
    of_host: set[int] = set()
    for entry in entries:
        single = all(t.shape in ((), (1,)) and t.type in ("Int64", "Int32") for t in entry.outputs)
        known = all(t.name in numbers for t in entry.inputs) and not entry.constants and not entry.tactic
        if entry.layer_type in NUMBER_TYPES and entry.outputs and single and known:
            numbers |= {t.name for t in entry.outputs}
            of_host.add(id(entry))
    return [k for k in entries if k.layer_type not in NO_KERNEL and id(k) not in of_host]


def host_numbers(log: str) -> int:
    """How many numbers the host works out between launches."""
    entries = [k for k in map(_kernel, _section(log)) if k.layer_type not in NO_KERNEL]
    return len(entries) - len(launched(entries))


def synchronisations(log: str) -> int:
    """How often kernels of one stream signal or wait for those of another."""
    found = [_LAYER.match(line) for line in _section(log)]
    return sum(f is not None and f["type"] in ("signal", "wait") for f in found)


def from_inspector(text: str) -> list[Kernel]:
    """The kernels in the JSON of TensorRT's engine inspector (``IEngineInspector``, detailed verbosity).

    Needs an engine that could be deserialised, so a GPU; TensorRT's own log has no such list.
    """
    found = []
    for layer in json.loads(text)["Layers"]:
        if not isinstance(layer, dict):
            raise _unreadable(f"a layer without details: {str(layer)[:80]}")
        name, layer_type = layer["Name"], layer.get("LayerType", "")
        sides = {
            k: tuple(_inspected(t) for t in layer.get(k.capitalize(), ())) for k in ("inputs", "outputs", "constants")
        }
        nodes = tuple(dict.fromkeys(_NODE.findall(layer.get("Metadata", ""))))
        kind = kind_of(name, layer_type)
        found.append(Kernel(name, layer_type, kind, nodes=nodes, tactic=layer.get("TacticName", ""), **sides))
    if not found:
        raise _unreadable("no layers in the inspector's JSON")
    return launched(found)


def _inspected(tensor: dict) -> Tensor:
    words = f"{tensor.get('Datatype', '')} {tensor.get('Format/Datatype', '')}".lower()
    kind = next((kind for word, kind in SPELLINGS.items() if word in words), None)
    if kind is None:
        raise _unreadable(f"the type {words.strip()!r} of {tensor.get('Name')}")
    return Tensor(tensor["Name"], tuple(tensor["Dimensions"]), kind)


SPELLINGS = {
    "bf16": "BFloat16",
    "bfloat16": "BFloat16",
    "fp16": "Half",
    "half": "Half",
    "fp32": "Float",
    "float": "Float",
    "fp8": "FP8",
    "fp4": "FP4",
    "uint8": "UInt8",
    "int8": "Int8",
    "int64": "Int64",
    "int32": "Int32",
    "int4": "Int4",
    "bool": "Bool",
}
"""How the inspector's format strings spell a type; a spelling that is part of another one comes after it."""


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
