"""``make bench``: how long a bundle's engine takes, or, where no GPU can run it, its graph in ONNX Runtime on the CPU.

What is measured is what lies in the bundle; nothing is built. Results go to ``bench.<backend>.json`` beside it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from exporter import SCHEMA, __version__, contest, machine, registry, subject, timing
from exporter.backends import tensorrt
from exporter.benched import CPU, Place, find
from exporter.errors import UsageError
from exporter.files import write_json
from exporter.progress import Progress
from exporter.subject import OURS, Subject


@dataclass(frozen=True)
class Asked:
    """What the words of the command line make; ``batches`` None is the profile's optimum."""

    model: str
    precision: str
    out: Path
    batches: tuple[int, ...] | None = None
    backend: str | None = None
    against: tuple[str, ...] = ()
    plan: timing.Plan = field(default_factory=timing.Plan)
    threads: int = 0
    weights: str = "auto"
    graphs: bool = True
    spin: bool = True
    command: str = ""


def parse_batches(text: str | None) -> tuple[int, ...] | None:
    """``1,8,32``."""
    if not text:
        return None
    parts = [p.strip() for p in text.split(",")]
    if not all(p.isascii() and p.isdigit() and 0 < int(p) <= 4096 for p in parts):
        raise UsageError("BATCH cannot be read", found=text, expected="images, comma-separated", next="BATCH=1,8,32")
    return tuple(dict.fromkeys(map(int, parts)))


def parse_against(text: str | None) -> tuple[str, ...]:
    """Contenders, comma-separated; each must be there and installed."""
    names = tuple(dict.fromkeys(n.strip() for n in (text or "").split(",") if n.strip()))
    for name in names:
        subject.contender(name)
    return names


def bench(asked: Asked, progress: Progress) -> dict:
    """Everything that ``bench.<backend>.json`` holds."""
    place = find(asked.model, asked.precision, asked.out, asked.backend)
    profile = place.manifest["batch"]
    batches = asked.batches or (profile["opt"],)
    for batch in batches:
        if not profile["min"] <= batch <= profile["max"]:
            raise UsageError(
                f"the engine takes no batch of {batch}", model=place.recipe.name, found=str(batch),
                expected=f"{profile['min']} to {profile['max']}", next=f"BATCH={profile['min']},{profile['max']}",
            )  # fmt: skip
    on_gpu = place.backend != CPU
    rows = []
    for batch in batches:
        with tempfile.TemporaryDirectory() as scratch, progress.stage(f"batch {batch}") as line:
            rows.append(_measure(asked, place, batch, Path(scratch), line.show))
            line.summary = _line(rows[-1])
    manifest, ours = place.manifest, subject.contender(OURS)
    found = {
        "schema": SCHEMA,
        "kind": "bench",
        "tool": __version__,
        "built_by": manifest["versions"].get("vit-exporter"),
        "model": place.recipe.name,
        "precision": manifest["precision"],
        "backend": place.backend,
        "backend_version": manifest["engine"]["backend_version"] if on_gpu else subject.versions(ours)[CPU],
        "device": place.device,
        "why_not_gpu": place.why,
        "says": _says(place, rows),
        "engine_sha256": manifest["engine"]["sha256"],
        "onnx_sha256": manifest["onnx"]["sha256"],
        "weights": manifest["weights"]["source"],
        "image": list(place.recipe.preprocessing.size),
        "plan": asked.plan.as_dict(),
        "threads": None if on_gpu else asked.threads or len(os.sched_getaffinity(0)),
        "spin": asked.spin if on_gpu else None,
        "seed": subject.SEED,
        "batches": rows,
        "machine": machine.describe(),
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": asked.command,
    }
    path = place.folder / f"bench.{place.backend}.json"
    found["written"] = str(path)
    write_json(path, found)
    return found


def _says(place: Place, rows: Sequence[dict]) -> str:
    """One sentence: what was measured."""
    if place.backend != CPU:
        return f"the engine, {place.backend} on this machine's {place.device}"
    computes = rows[0]["contenders"][rows[0]["ours"]]["computes"]
    return f"NOT the engine ({place.why}): {computes}. This says nothing of a GPU's speed."


def _measure(asked: Asked, place: Place, batch: int, folder: Path, note: Callable[[str], None]) -> dict:
    """One batch: ours and its contenders in turns."""
    on_gpu = place.backend != CPU
    eight = bool(place.manifest.get("quantized")) and "int8" in place.manifest["precision"]
    home = place.folder.parent
    what = Subject(
        place.recipe, place.manifest["weights"]["classes"], asked.weights, home / "raw.onnx", home / "model.fp32.onnx",
        place.folder / "model.onnx", batch, asked.threads or len(os.sched_getaffinity(0)), folder,
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        if on_gpu:
            what = replace(what, device="cuda", element_type=registry.precision(asked.precision).element_type)
            ours, queries, facts = _engine(asked, place, batch, stack)
        else:
            ours, queries, facts = OURS + ("-int8" if eight else ""), {}, {}
        names = (() if on_gpu else (ours,)) + asked.against
        return contest.held(what, ours, names, asked.plan, note, queries, facts)


def _engine(asked: Asked, place: Place, batch: int, stack: contextlib.ExitStack) -> tuple[str, dict, dict]:
    """Queries of the engine with CUDA graphs and without; the first one is what others are compared with."""
    from exporter.backends import cuda

    tensors = [t | {"input": side == "inputs"} for side in ("inputs", "outputs") for t in place.manifest[side]]
    active = stack.enter_context(tensorrt.runner(place.folder / "model.engine", place.backend))
    kinds = {"engine, CUDA graph": True, "engine": False} if asked.graphs else {"engine": False}
    queries = {name: cuda.engine_query(active, tensors, batch, graphs, asked.spin) for name, graphs in kinds.items()}
    versions = {place.backend: place.manifest["engine"]["backend_version"]}
    return next(iter(kinds)), queries, {name: {"computes": name, "versions": versions} for name in kinds}


def _line(row: dict) -> str:
    ours = row["contenders"][row["ours"]]
    said = f"{ours['milliseconds']['latency']['p50']:.2f} ms, {ours['images_per_second']:.1f} images/s"
    return said + (", NOISY" if row["noisy"] else "")
