"""The bundles of a model as they lie in OUT: read whole, or named with what is wrong with them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter import SCHEMA, registry
from exporter.errors import UsageError
from exporter.files import as_knob
from exporter.jsonfile import ANY, NUMBER, Damaged, read
from exporter.passport import MANIFEST
from exporter.store import Entry

ORDER = ("fp32", "tf32", "fp16", "bf16", "int8", "int8-bf16", "fp8")
"""Precisions from wide to narrow; others follow by name."""

FAILED = ".failed"

KERNEL = {"name": str, "kind": str, "block": str, "bytes": NUMBER, "flops": NUMBER, "nodes": [str]}
KERNELS = {"batch_at_opt": int, "kernels": [{"name": str}], "at_opt": [KERNEL]}
EXPLAINED = {"batch": str, "backend": str, "targets": [str], "stages": {ANY: str}, "blocks_before": {ANY: {ANY: int}}}
DEPTH = {"onnx": str, "images": [str], "blocks": [{"block": str, "unit": str, "error": NUMBER, "own": NUMBER}],
         "missing": [str]}  # fmt: skip
ENTRY = {"files": {ANY: {"sha256": str, "bytes": int}}, "meta": dict, "parts": dict, "seconds": NUMBER}


@dataclass(frozen=True)
class Published:
    """One bundle. ``name`` is its folder's: ``fp16``, ``fp16.failed``. ``problems`` are its files that cannot be read.

    ``depth`` and ``before`` (kernels by kind of each block of the graph as exported) are None where nobody made them.
    """

    name: str
    folder: Path
    manifest: dict[str, Any]
    kernels: dict[str, Any] | None = None
    depth: dict[str, Any] | None = None
    before: dict[str, dict[str, int]] | None = None
    problems: tuple[str, ...] = ()

    @property
    def out(self) -> Path:
        """The folder of all bundles."""
        return self.folder.parents[1]

    @property
    def precision(self) -> str:
        return self.name.removesuffix(FAILED)

    @property
    def failed(self) -> bool:
        """Whether it lies where builds go that failed a check."""
        return self.name.endswith(FAILED)


@dataclass(frozen=True)
class Unread:
    """A bundle that cannot be shown, and why."""

    name: str
    why: str


def find(out: Path, model: str, precisions: Collection[str] = ()) -> tuple[list[Published], list[Unread]]:
    """Every bundle of ``model`` in ``out``, or those of ``precisions``: read ones, and those that cannot be.

    Raises :class:`UsageError` where there is none that can be read.
    """
    home, read_ones, unread = out / registry.folder(model), [], []
    for folder in sorted(_folders(home), key=_rank):
        if precisions and folder.name.removesuffix(FAILED) not in precisions:
            continue
        try:
            read_ones.append(_read(folder))
        except Damaged as error:
            unread.append(Unread(folder.name, str(error)))
    if read_ones:
        return read_ones, unread
    wanted = f" {next(iter(precisions))}" if len(precisions) == 1 else ""
    raise UsageError(
        f"there is no{wanted} bundle to report on",
        model=model,
        found="; ".join(f"{u.name}: {u.why}" for u in unread) or f"nothing in {home}",
        expected=f"{home}/<precision>/manifest.json of schema {SCHEMA}",
        next=f"make engine MODEL={model}" + (f" PRECISION={wanted.strip()}" if wanted else "") + as_knob(out),
    )


def _folders(home: Path) -> list[Path]:
    try:
        return [path for path in home.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:
        return []


def _rank(folder: Path) -> tuple:
    precision = folder.name.removesuffix(FAILED)
    return (ORDER.index(precision) if precision in ORDER else len(ORDER), folder.name)


def _read(folder: Path) -> Published:
    schema = read(folder / "manifest.json", {"schema": int})["schema"]
    if schema != SCHEMA:
        raise Damaged(f"its schema is {schema}, this version reads {SCHEMA}: make engine builds it again")
    manifest = read(folder / "manifest.json", MANIFEST)
    problems: list[str] = []

    def optional(path: Path, shape: dict, needed: bool = False) -> dict | None:
        try:
            return read(path, shape) if needed or path.exists() else None
        except Damaged as error:
            problems.append(str(error))
            return None

    kernels = optional(folder / "kernels.json", KERNELS, needed=True)
    depth = optional(folder / "depth.json", DEPTH)
    if depth is not None and depth["onnx"] != manifest["onnx"]["sha256"]:
        depth = None  # of a graph that was here before
    explained = optional(folder.parent / f"explain.{folder.name.removesuffix(FAILED)}.json", EXPLAINED)
    before = explained["blocks_before"] if explained and _is_of(explained, manifest) else None
    return Published(folder.name, folder, manifest, kernels, depth, before, tuple(problems))


def _is_of(explained: dict, manifest: dict) -> bool:
    """Whether ``make explain`` looked at the graph, the batch and the compiler of this bundle."""
    sizes = manifest["batch"]
    batch = str(sizes["opt"]) if sizes["min"] == sizes["max"] else f"{sizes['min']}:{sizes['opt']}:{sizes['max']}"
    same = all(explained["stages"].get(name) == manifest["stages"].get(name) for name in ("trace", "rewrite"))
    return same and explained["batch"] == batch and explained["backend"] == manifest["engine"]["backend"]


def entry(out: Path, bundle: Published, stage: str) -> Entry | str:
    """The cached stage that a bundle was made from, unharmed, or why there is none. Nothing is deleted."""
    key = bundle.manifest["stages"].get(stage, "")
    folder = out / ".cache" / stage / key
    if not key or not folder.is_dir():
        return f"the cache no longer holds the stage {stage} of this build"
    try:
        record = read(folder / "entry.json", ENTRY)
    except Damaged as error:
        return f"the cached stage {stage}: {error}"
    found = Entry(stage, key, folder, record["files"], record["meta"], record["seconds"], reused=True)
    found.memory["parts"] = record["parts"]
    broken = found.broken()
    return f"the cached stage {stage}: {broken}" if broken else found
