"""Parity through depth: how far each block's output is from the torch module's, in the order of the network.

The typed graph of a bundle runs as its numerics twin on a few photographs; its tensors are matched with the module's
units as ``make blame`` does it, those of an 8-bit graph in the graph before its quantisation, which has their names.
The result is ``depth.json`` in the bundle, cached like a stage.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from exporter import SCHEMA, jsonfile, registry
from exporter.errors import UsageError
from exporter.files import as_knob, place, sha256_file, sha256_text, unwritable, write_json
from exporter.naming import block_of
from exporter.registry import recipe_source, source
from exporter.reporting import inputs
from exporter.reporting.published import Published, entry
from exporter.stages.reference import versions
from exporter.store import Entry, Store, key_of
from exporter.types import ModuleSpec, Recipe

FILE = "depth.json"
IMAGES = 3
"""Photographs that are run: one batch of :mod:`exporter.located`."""

CODE = (
    "exporter.reporting.depth",
    "exporter.located",
    "exporter.examined",
    "exporter.alignment",
    "exporter.units",
    "exporter.numerics",
    "exporter.shapes",
    "exporter.naming",
    "exporter.weights",
    "exporter.checkpoint",
    "exporter.samples",
    "calibration.images",
)


def bring(out: Path, bundle: Published, words: inputs.Words, progress) -> Entry:
    """Make ``depth.json`` of a bundle, or take it from the cache, and put it there.

    Raises :class:`UsageError` where the graph, the weights or the photographs of the build are no longer there.
    """
    recipe = registry.recipe(bundle.manifest["model"]).at(tuple(bundle.manifest["preprocessing"]["size"]))
    store = Store(out / ".cache", progress.warn)
    with progress.stage(f"depth {bundle.name}") as line:
        graph = bundle.folder / "model.onnx"
        if not graph.is_file() or sha256_file(graph) != bundle.manifest["onnx"]["sha256"]:
            raise _other(bundle, "model.onnx", "missing" if not graph.is_file() else "another file")
        weights = inputs.weights(recipe, bundle, words)
        files = inputs.photographs(out, bundle, words)[:IMAGES]
        parts = _parts(bundle, recipe, weights, files)
        key = key_of(parts)
        with store.lock(f"{recipe.folder}.depth"):
            entry = store.find("depth", key) or store.build(
                "depth", key, parts, lambda folder: _run(folder, out, bundle, recipe, weights, files, line)
            )
        try:
            _put(entry.path(FILE), bundle.folder / FILE)
        except OSError as error:
            raise unwritable(bundle.folder, error) from None
        line.summary, line.reused = entry.meta["summary"], entry.reused
    return entry


def _parts(bundle: Published, recipe: Recipe, weights, files: list[Path]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "onnx": bundle.manifest["onnx"]["sha256"],
        "precision": bundle.precision,
        "form": bundle.manifest["stages"].get("form"),
        "weights": weights.sha256,
        "classes": bundle.manifest["weights"]["classes"],
        "image": recipe.preprocessing.size,
        "recipe": sha256_text(recipe_source(recipe)),
        "images": [sha256_file(path) for path in files],
        "code": sha256_text(*map(source, CODE)),
        "versions": versions("torch", "timm", "transformers", "onnxruntime", "numpy"),
    }


def _put(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    place(source, temporary)
    os.replace(temporary, target)
    temporary.unlink(missing_ok=True)  # two names of one file: the rename did nothing


def _run(
    folder: Path, out: Path, bundle: Published, recipe: Recipe, weights, files: list[Path], line
) -> tuple[dict, dict]:
    from exporter import onnxio, samples
    from exporter import weights as made
    from exporter.examined import Examined

    line.show("building the torch module")
    module = made.module(recipe, weights, ModuleSpec(recipe.preprocessing.size, bundle.manifest["weights"]["classes"]))
    tf32 = registry.precision(bundle.precision).tf32
    graph = Examined(onnxio.load(bundle.folder / "model.onnx"), tf32)
    shown = samples.load(recipe, files)
    count = min(IMAGES, len(shown.names) - samples.NOISE_ROWS)
    pixels = shown.pixels[:count]
    names = [spec.name for spec in recipe.outputs]
    blocks, missing = measure(graph, module, names, pixels, line.show, _unquantized(out, bundle))
    record = {
        "schema": SCHEMA,
        "onnx": bundle.manifest["onnx"]["sha256"],
        "images": list(shown.names[:count]),
        "measure": "root mean square of the difference as a share of the torch module's, over the worst image",
        "blocks": blocks,
        "missing": missing,
    }
    write_json(folder / FILE, record)
    return {"summary": f"{len(blocks)} blocks, {len(missing)} not found in the graph"}, {}


def _unquantized(out: Path, bundle: Published):
    """The graph that an 8-bit one was made from; None for the others and where the cache no longer holds it."""
    from exporter import onnxio
    from exporter.examined import Examined
    from exporter.stages import form

    stage = entry(out, bundle, form.NAME)
    if not registry.precision(bundle.precision).quantized or not isinstance(stage, Entry):
        return None
    return Examined(onnxio.load(stage.path(form.FILE)), False)


def measure(
    graph, module, names: list[str], pixels, note=lambda text: None, before=None
) -> tuple[list[dict], list[str]]:
    """(error of each block's output in the network's order, blocks that the graph has no tensor for).

    The module's units are looked for in ``before``, where that is given, and in ``graph`` by the names found there.
    ``error`` is against the module left to itself, ``own`` what the block's last unit added to it.
    """
    from exporter.located import BATCH, locate
    from exporter.units import Units

    note("the module's blocks")
    ends = last_units(Units(module).answers(pixels[:BATCH]))
    only = set(ends.values())
    known = None if before is None else locate(before, module, names, pixels[:BATCH], only=only, note=note)
    found = locate(graph, module, names, pixels, known=known, only=only, note=note)
    by_name = {unit.name: unit for unit in found.found}
    here = {block: by_name[name] for block, name in ends.items() if name in by_name}
    rows = [
        {
            "block": block,
            "unit": u.name,
            "tensor": u.tensor,
            "error": jsonfile.words(u.leaving),
            "own": jsonfile.words(u.own),
        }
        for block, u in here.items()
    ]
    return rows, [block for block in ends if block not in here]


def last_units(names) -> dict[str, str]:
    """The unit whose answer is a block's output: of its units, in the order in which they finish, the last one."""
    from exporter.units import INPUT

    ends: dict[str, str] = {}
    for name in names:
        if not name.endswith(INPUT):
            block = block_of(name)
            ends.pop(block, None)  # a stage that ends behind its blocks takes its place there
            ends[block] = name
    return ends


def _other(bundle: Published, what: str, found: str) -> UsageError:
    return UsageError(
        f"{what} of the bundle {bundle.name} is not what its manifest describes",
        model=bundle.manifest["model"],
        stage="depth",
        found=found,
        expected=f"sha256 {bundle.manifest['onnx']['sha256'][:12]}",
        next=f"make engine MODEL={bundle.manifest['model']} PRECISION={bundle.precision}{as_knob(bundle.out)}",
    )
