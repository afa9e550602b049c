"""Which weights, and how many classes they know. Reads and checks a user's checkpoint; copies nothing."""

from __future__ import annotations

from pathlib import Path

from exporter.build import Build
from exporter.store import Entry

NAME = "weights"
NEEDS = ()
CODE = (
    "exporter.weights",
    "exporter.checkpoint",
)


def parts(build: Build) -> dict:
    return {
        **build.weights.as_dict(),
        "head": build.recipe.head,
        "head_extra": build.recipe.head_extra,
        "classes": build.recipe.classes,
    }


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    from exporter import weights

    classes = weights.count_classes(build.recipe, build.weights)
    return {**build.weights.as_dict(), "classes": classes}, {}


def summary(entry: Entry) -> str:
    return f"{entry.meta['source']}, {entry.meta['classes']} classes"
