"""``make accuracy`` of a detector: COCO's average precision of the torch module, the rewritten and the typed graph.

``DATA`` is a folder of images with one ``instances`` JSON of COCO's in it. A query's answer is its surest class; boxes
are shares of the picture, so they are compared in the picture's own pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibration import coco, images
from exporter.average_precision import Boxes, drop_interval, match
from exporter.errors import UsageError
from exporter.metrics import softmax
from exporter.types import Recipe

BATCH = 4

Answer = Callable[[np.ndarray], dict[str, np.ndarray]]
"""(n, 3, H, W) -> every output by name."""


@dataclass(frozen=True)
class Shown:
    """One picture: the model's input, its size in pixels (width, height) and what it shows."""

    name: str
    pixels: np.ndarray
    size: tuple[int, int]
    truth: Boxes


@dataclass(frozen=True)
class Scenes:
    """``rows(said)`` yields :class:`Shown`; ``said(name, why)`` is told of pictures that cannot be read.

    ``count`` is None where nobody knows before they were drawn.
    """

    name: str
    count: int | None
    rows: Callable[[Callable[[str, str], None]], Iterator[Shown]]


def source(where: Path | None, recipe: Recipe) -> Scenes:
    """The pictures and objects of a folder, or the recipe's own; :class:`UsageError` for a folder that is no COCO's."""
    if where is None and recipe.held_out is not None:
        return _own(recipe)
    if where is None:
        raise UsageError(
            "there are no labelled images of this model",
            model=recipe.name,
            stage="accuracy",
            found="no DATA",
            expected="a folder with images and COCO's instances JSON",
            next=f"make accuracy MODEL={recipe.name} DATA=<coco/val2017 with instances_val2017.json in it>",
        )
    files = {path.name: path for path in images.files(where)}
    notes = sorted(where.rglob("*.json"))
    if len(notes) != 1:
        raise UsageError(
            f"{where} must hold one annotation file", model=recipe.name, stage="accuracy",
            found=f"{len(notes)} JSON files", expected="one of COCO's instances", next="DATA=<such a folder>",
        )  # fmt: skip
    objects = coco.instances(notes[0])
    known = {name: files[Path(name).name] for name in objects if Path(name).name in files}
    largest = max((o.category for found in objects.values() for o in found), default=0)
    if not known or largest >= recipe.classes:
        found = f"category {largest}" if known else f"none of the {len(objects)} images of {notes[0].name}"
        raise UsageError(
            f"the annotations of {where} are not for these images or this model", model=recipe.name, stage="accuracy",
            found=found, expected=f"images that lie there, categories below {recipe.classes}",
            next="DATA=<such a folder>",
        )  # fmt: skip

    def rows(said):
        for name, path in known.items():
            try:
                picture = images.decode(path)
            except UsageError as error:
                said(name, str(error.found))
                continue
            corners = np.array([o.corners for o in objects[name]], float).reshape(-1, 4)
            classes = np.array([o.category for o in objects[name]], int)
            truth = Boxes(corners, classes, crowd=np.array([o.crowd for o in objects[name]], bool))
            yield Shown(name, images.preprocess(picture, recipe.preprocessing), picture.size, truth)

    return Scenes(str(where), len(known), rows)


def _own(recipe: Recipe) -> Scenes:
    """The recipe's held-out images, whose labels are :class:`Boxes` in the input's own pixels."""

    def rows(said):
        height, width = recipe.preprocessing.size
        for i, (pixels, truth) in enumerate(recipe.held_out(recipe)):
            yield Shown(f"held-out image {i}", pixels, (width, height), truth)

    return Scenes(f"{recipe.name}'s held-out images", None, rows)


def measure(runtimes: dict[str, Answer], scenes: Scenes, note: Callable[[str], None]) -> tuple[dict, int, dict]:
    """(rows by runtime, images, skipped files).

    A row has ``ap``, ``ap50``, and against torch ``drop`` and ``drop50`` in points with their 95 % intervals.
    """
    skipped: dict[str, str] = {}
    found: dict[str, list[Boxes]] = {name: [] for name in runtimes}
    truths: list[Boxes] = []
    for batch in _batches(scenes.rows(lambda name, why: skipped.setdefault(name, why))):
        pixels = np.stack([shown.pixels for shown in batch])
        for name, answer in runtimes.items():
            outputs = answer(pixels)
            found[name] += [boxes({k: v[i] for k, v in outputs.items()}, shown.size) for i, shown in enumerate(batch)]
        truths += [shown.truth for shown in batch]
        note(f"{len(truths)} images" if scenes.count is None else f"{len(truths)} of {scenes.count} images")
    if not truths:
        raise UsageError(
            "there are no images to measure accuracy on", stage="accuracy", found=f"{len(skipped)} that cannot be read",
            expected="at least one", next="DATA=<folder>",
        )  # fmt: skip
    rows: dict[str, Any] = {}
    matches = {name: match(answers, truths) for name, answers in found.items()}
    for name, matched in matches.items():
        made = matched.precision()
        rows[name] = {"status": "measured", "ap": made.ap, "ap50": made.ap50}
        if name != "torch":
            note(f"the interval of what {name} loses")
            ends = drop_interval(matches["torch"], matched)
            rows[name]["drop"] = 100 * (rows["torch"]["ap"] - made.ap)
            rows[name]["drop50"] = 100 * (rows["torch"]["ap50"] - made.ap50)
            rows[name]["drop_interval"], rows[name]["drop50_interval"] = ends["ap"], ends["ap50"]
    return rows, len(truths), skipped


def boxes(outputs: dict[str, np.ndarray], size: tuple[int, int]) -> Boxes:
    """One image's answers: ``logits`` (Q, C + 1), the last class no object, ``boxes`` (Q, 4) as centre and size."""
    shares = softmax(outputs["logits"])[:, :-1]
    x, y, width, height = outputs["boxes"].astype(np.float64).T
    corners = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1) * np.array([*size, *size])
    return Boxes(corners, shares.argmax(-1), scores=shares.max(-1))


def _batches(rows: Iterator[Shown]) -> Iterator[list[Shown]]:
    pending: list[Shown] = []
    for row in rows:
        pending.append(row)
        if len(pending) == BATCH:
            yield pending
            pending = []
    if pending:
        yield pending
