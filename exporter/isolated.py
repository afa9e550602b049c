"""A stranger's ONNX file, looked at in a child process with limits of time and memory before anything else reads it.

A native parser that crashes, hangs or takes all memory on it ends the child and is an error of ours. What the child
refuses by itself: more nodes or larger dimensions than any model has, and external data
(https://onnx.ai/onnx/repo-docs/ExternalData.html) that is not a plain part of a plain file in the model's own folder.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath

MOST_NODES = 200_000
LARGEST_DIMENSION = 1 << 31
MEMORY = 2 << 30
"""Bytes of address space of the child, beside a few times the file's own size."""

SECONDS = 8.0
"""What the child may take, beside a second for every 50 MB of the file."""

BYTES_A_SECOND = 50e6
COPIES = 4
"""The file, the message that it becomes, the skeleton for the checker, and what the checker makes of it."""


def fault(path: Path) -> str | None:
    """What is wrong with the file, in a sentence, or None where it may be loaded in this process."""
    if not path.is_file():
        return f"{_kind(path)}, not a file"
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        return "an empty file"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file it points to: git lfs pull"
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return "an HTML page, probably a download that needed a login"
    size = path.stat().st_size
    seconds = SECONDS + size / BYTES_A_SECOND
    here = str(Path(__file__).parents[1])
    environment = dict(
        os.environ,
        OPENBLAS_NUM_THREADS="1",
        OMP_NUM_THREADS="1",
        PYTHONPATH=os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH")))),
    )
    command = [sys.executable, "-m", "exporter.isolated", str(path.absolute()), str(MEMORY + COPIES * size)]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return f"{size} bytes that the ONNX parser and checker do not get through in {seconds:.0f} s"
    if done.returncode < 0:
        return f"{size} bytes that end the ONNX parser with {signal.Signals(-done.returncode).name}"
    try:
        return json.loads(done.stdout.splitlines()[-1])["fault"]
    except (IndexError, ValueError, KeyError):
        said = next(reversed(done.stderr.strip().splitlines()), "nothing")
        return f"{size} bytes that end the ONNX parser: {said[:200]}"


def _kind(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return f"a link to {os.readlink(path)}, which does not exist"
    kinds = ((path.is_dir, "a folder"), (path.is_fifo, "a pipe"), (path.is_socket, "a socket"))
    return next((name for test, name in kinds if test()), "no such file" if not path.exists() else "a device")


def look(path: Path) -> str | None:
    """The child's work: parse, check sizes and external data, then onnx's own checker."""
    import onnx

    from exporter import onnxio

    try:
        model = onnx.load(str(path), load_external_data=False)
        graphs = list(_graphs(model.graph))
        count = sum(len(graph.node) for graph in graphs) + sum(len(f.node) for f in model.functions)
        if count > MOST_NODES:
            return f"{count} nodes, at most {MOST_NODES} are looked at"
        for graph in graphs:
            for tensor in _tensors(graph):
                if found := _tensor_fault(tensor, path.parent):
                    return found
        onnxio.check(model)
    except MemoryError:
        return f"it needs more memory than {MEMORY >> 30} GiB beside its own size"
    except Exception as error:  # whatever protobuf, onnx and its checker say of a damaged file
        return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
    return None


def _graphs(graph):
    """A graph and all graphs inside its nodes."""
    waiting = [graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)


def _tensors(graph):
    """Every tensor of a graph, wherever external data may hide."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from ([attribute.t] if attribute.HasField("t") else [])
            yield from attribute.tensors


def _tensor_fault(tensor, folder: Path) -> str | None:
    from onnx import TensorProto

    from exporter import onnxio

    name = tensor.name[:80]
    if any(not 0 <= n < LARGEST_DIMENSION for n in tensor.dims):
        return f"{name} has the shape {tuple(tensor.dims)[:8]}"
    size = onnxio.nbytes(tensor)
    if tensor.data_location != TensorProto.EXTERNAL:
        if tensor.raw_data and len(tensor.raw_data) != size:
            return f"{name} of {prod(tensor.dims)} values has {len(tensor.raw_data)} bytes, not {size}"
        return None
    facts = {entry.key: entry.value for entry in tensor.external_data}
    return external_fault(name, facts, size, folder)


def external_fault(name: str, facts: dict[str, str], size: int, folder: Path) -> str | None:
    """What is wrong with where a tensor of ``size`` bytes says that its values lie."""
    location = facts.get("location", "")
    parts = PurePosixPath(location).parts
    if not location or "\0" in location:
        return f"the external data of {name} has no file name"
    if PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor or ".." in parts or "\\" in location:
        return f"the external data of {name} is outside the model's folder: {location[:120]}"
    place = folder
    for part in parts:
        place = place / part
        if place.is_symlink():
            return f"the external data of {name} is behind a link: {location[:120]}"
    try:
        there = os.lstat(place)
    except OSError as error:
        return f"the external data of {name} cannot be read: {location[:120]} ({error.strerror})"
    if not stat.S_ISREG(there.st_mode):
        return f"the external data of {name} is no file: {location[:120]}"
    if there.st_nlink > 1:
        return f"the external data of {name} is a file with {there.st_nlink} names (hard links): {location[:120]}"
    try:
        offset, length = int(facts.get("offset", "0")), int(facts.get("length", str(size)))
    except ValueError:
        return f"the external data of {name} has no number for its offset or length"
    if offset < 0 or length != size or offset + length > there.st_size:
        return (
            f"the external data of {name} is {length} bytes from {offset} of {location[:80]}, "
            f"which has {there.st_size}; the tensor is {size}"
        )
    return None


if __name__ == "__main__":
    limit = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(json.dumps({"fault": look(Path(sys.argv[1]))}))
