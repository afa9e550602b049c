"""Images with their labels, streamed: a recipe's own held-out ones, or a folder with one folder for each class.

The folders are the classes in sorted order, as ImageNet's validation set is usually laid out and torchvision's
``ImageFolder`` reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration import images
from calibration.decoding import decoded
from exporter.errors import UsageError
from exporter.types import Recipe


@dataclass(frozen=True)
class Labelled:
    """``rows(said)`` yields (name, (3, H, W) float32, label); ``said(name, why)`` is told of skipped files."""

    name: str
    rows: Callable[[Callable[[str, str], None]], Iterator[tuple[str, np.ndarray, int]]]
    count: int | None = None


def source(where: Path | None, recipe: Recipe, classes: int) -> Labelled:
    """What ``DATA`` names, or the recipe's own; :class:`UsageError` where there is neither."""
    if where is not None:
        return _folder(where, recipe, classes)
    if recipe.held_out is None:
        raise UsageError(
            "there are no labelled images of this model",
            model=recipe.name,
            stage="accuracy",
            found="no DATA, and the recipe has none of its own",
            expected="a folder with one folder of images for each class",
            next=f"make accuracy MODEL={recipe.name} DATA=<imagenet/val>",
        )

    def rows(said):
        for i, (row, label) in enumerate(recipe.held_out(recipe)):
            yield f"held-out image {i}", row, label

    return Labelled(f"{recipe.name}'s held-out images", rows)


def _folder(where: Path, recipe: Recipe, classes: int) -> Labelled:
    files = images.files(where)
    names = sorted({path.relative_to(where).parts[0] for path in files if path.parent != where})
    if len(names) != classes or any(path.parent == where for path in files):
        loose = sum(path.parent == where for path in files)
        raise UsageError(
            f"the folders of {where} are not this model's classes",
            model=recipe.name,
            stage="accuracy",
            found=f"{len(names)} folders with images" + (f" and {loose} images beside them" if loose else ""),
            expected=f"{classes} folders, one for each class, in the order of the model's outputs when sorted",
            next="DATA=<such a folder>, or WEIGHTS=<a checkpoint with as many classes>",
        )
    label = {name: i for i, name in enumerate(names)}

    def rows(said):
        for path, picture in decoded(files, said, str(where), "accuracy", "DATA=<another folder>"):
            relative = path.relative_to(where)
            yield str(relative), images.preprocess(picture, recipe.preprocessing), label[relative.parts[0]]

    return Labelled(str(where), rows, len(files))
