"""The stages of a build, in order. This list is the whole pipeline; everything else is in the stages' own files."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from exporter import bundle, eviction, memory, schedule
from exporter.build import Build
from exporter.errors import ExporterError, UsageError
from exporter.progress import Progress
from exporter.registry import source
from exporter.remote import Remote, is_url
from exporter.stages import (
    calibrate,
    engine_parity,
    form,
    fp32_parity,
    islands,
    place,
    raw_parity,
    reference,
    rewrite,
    trace,
    typed,
    typed_parity,
    weights,
)
from exporter.stages import compile as compile_stage
from exporter.store import Entry, Store, key_of
from exporter.types import Request

CANONICAL = (weights, trace, rewrite)
"""What ends in the canonical graph, without a proof of it."""

STAGES = (
    weights,
    reference,
    trace,
    raw_parity,
    rewrite,
    fp32_parity,
    form,
    islands,
    calibrate,
    place,
    typed,
    compile_stage,
    typed_parity,
    engine_parity,
)

COMPILED = tuple(stage for stage in STAGES if stage is not reference and not getattr(stage, "PROOF", False))
"""What ends in an engine, without a proof of it."""


def run(request: Request, progress: Progress) -> bundle.Bundle:
    """Bring every stage up to date and publish the bundle.

    Raises :class:`UsageError` where the request cannot be served and :class:`CheckFailed` where a rewrite breaks its
    contract. A failed parity or fusion check is no exception: the returned bundle says so.
    """
    build = prepare(request, progress, STAGES)
    with progress.stage("bundle") as line, _of(request):
        made = bundle.publish(build)
        line.summary, line.reused = str(made.folder), made.reused
    if gone := eviction.evict(build.store.root, request.cache_limit, build.store.used):
        progress.warn(f"the cache was over its limit: {len(gone)} entries went, the least recently used first")
    return made


def prepare(request: Request, progress: Progress, stages: Sequence) -> Build:
    """Bring these stages up to date; each one's needs must be among those before it."""
    build = Build(request, store(request, progress.warn))
    build.store.join()
    if request.recipe.family == "generic":
        progress.warn(
            f"{request.recipe.name} is of no family that is known here: it takes the clean-ups and whatever rewrite "
            "matches, and nothing is promised of what the compiler fuses"
        )

    def bring(stage) -> None:
        with progress.stage(stage.NAME) as line, _of(request):
            build.show_on(line.show)
            entry = _bring_up_to_date(stage, build)
            build.entries[stage.NAME] = entry
            line.summary, line.reused = stage.summary(entry), entry.reused
        if not entry.reused:
            memory.give_back()
        if stage is weights and build.weights.kind == "random":
            progress.banner(f"RANDOM WEIGHTS: {build.weights.why}\nThis engine computes nothing useful.")

    stages = [stage for stage in stages if getattr(stage, "wanted", lambda request: True)(request)]
    schedule.run(stages, bring, _stop_running)
    build.entries = {stage.NAME: build.entries[stage.NAME] for stage in stages}
    return build


def store(request: Request, warn: Callable[[str], None]) -> Store:
    """The request's cache: in its output folder, in a folder that others share, or both here and behind an address."""
    if request.cache and not is_url(request.cache):
        return Store(Path(request.cache), warn)
    return Store(request.out / ".cache", warn, Remote(request.cache, warn) if request.cache else None)


def _stop_running() -> None:
    """End the inference that is going on, if anything was run at all."""
    if "exporter.backends.onnxruntime" in sys.modules:
        sys.modules["exporter.backends.onnxruntime"].stop()


@contextlib.contextmanager
def _of(request: Request) -> Iterator[None]:
    """Errors say which model they are of."""
    try:
        yield
    except ExporterError as error:
        error.model = error.model or request.recipe.name
        raise


def _bring_up_to_date(stage, build: Build) -> Entry:
    """The stage's entry from the cache, or made now; one process at a time makes it."""
    parts = parts_of(stage, build)
    key = key_of(parts)
    with build.store.lock(f"{build.recipe.folder}.{stage.NAME}"):
        found = build.store.find(stage.NAME, key)
        if found is not None:
            return found
        try:
            return build.store.build(stage.NAME, key, explained(parts), lambda folder: stage.run(build, folder))
        except ExporterError as error:
            error.stage = error.stage or stage.NAME
            raise
        except (MemoryError, RuntimeError) as error:
            if not memory.exhausted(error):
                raise
            raise _no_memory(stage.NAME, build) from error


def _no_memory(stage: str, build: Build) -> UsageError:
    """The error for a stage that found no memory: what was used, what there is, what a build needs.

    A cold build of Swin-B was measured to need 5.6 GiB for a raw graph of 356 MB, seventeen times as much.
    """
    graph = build.entries["trace"].bytes if "trace" in build.entries else 0
    need = f"about {17 * graph / 1e9:.1f} GB" if graph else "about seventeen times the weights in FP32"
    return UsageError(
        "there is not enough memory",
        stage=stage,
        found=f"{memory.peak_bytes() / 1e9:.1f} GB used, {memory.available_bytes() / 1e9:.1f} GB available",
        expected=f"{need} for the whole build",
        next="end other programs, or BATCH=1:1:1, or a machine with more memory; finished stages are kept",
    )


def parts_of(stage, build: Build) -> dict:
    """Everything that can change a stage's output, by name: its own parts, its code, the entries that it needs."""
    return {
        **stage.parts(build),
        "code": {name: source(name) for name in (*stage.CODE, stage.__name__)},
        "needs": [build.entries[name].key for name in stage.NEEDS if name in build.entries],
    }


def explained(parts: dict) -> dict:
    """The parts of a key as the entry records them: source texts as their hashes."""
    from exporter.files import sha256_text

    def short(value):
        if isinstance(value, str) and (len(value) > 400 or "\n" in value):
            return f"sha256:{sha256_text(value)}"
        if isinstance(value, (list, tuple)):
            return [short(v) for v in value]
        return {k: short(v) for k, v in value.items()} if isinstance(value, dict) else value

    return short(parts)
