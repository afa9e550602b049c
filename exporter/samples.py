"""What parity is measured on: photographs or the recipe's own images, seeded noise, and the batches they run in."""

from __future__ import annotations

import importlib.util
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.errors import UsageError
from exporter.files import sha256_file, sha256_text
from exporter.types import Batch, Recipe

if TYPE_CHECKING:
    import numpy as np

PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "hubble_deep_field.jpg",
)
"""Photographs that scikit-image ships: a portrait, a cat, a cup, a launch, a room, a field of galaxies."""

NOISE_ROWS = 2
MOST_IMAGES = 64
"""Images of a folder that are used, evenly spread over its sorted files."""

SEED = 0


@dataclass(frozen=True)
class Samples:
    """``pixels`` (S, 3, H, W) float32 and what each row is; rows of noise come last."""

    pixels: np.ndarray
    names: tuple[str, ...]


def paths(folder: Path | None, recipe: Recipe | None = None) -> list[Path]:
    """The files that parity runs on: of the user's folder, else none for a recipe with images of its own, else
    scikit-image's photographs."""
    if folder is None:
        return [] if recipe is not None and recipe.held_out is not None else shipped()
    from calibration import images

    found = images.files(folder)
    if len(found) <= MOST_IMAGES:
        return found
    return [found[i * (len(found) - 1) // (MOST_IMAGES - 1)] for i in range(MOST_IMAGES)]


def shipped() -> list[Path]:
    """scikit-image's photographs, found without importing it."""
    spec = importlib.util.find_spec("skimage")
    found = (
        []
        if spec is None
        else [Path(p) / "data" / name for p in spec.submodule_search_locations for name in PHOTOGRAPHS]
    )
    found = [path for path in found if path.is_file()]
    if not found:
        raise UsageError(
            "scikit-image's photographs are not installed",
            stage="parity",
            found="no scikit-image",
            expected=", ".join(PHOTOGRAPHS),
            next="pip install -e .   or   IMAGES=<a folder of photographs>",
        )
    return found


def fingerprint(files: list[Path]) -> str:
    """The hash that changes when any photograph, their order, or the noise changes."""
    return sha256_text(f"seed {SEED}, {NOISE_ROWS} rows of noise", *map(sha256_file, files))


def load(recipe: Recipe, files: list[Path]) -> Samples:
    """Decode and preprocess ``files`` as the recipe says, and add the noise; a file that is no image is an error.

    Without files the recipe's own held-out images are taken, as many as there are shipped photographs.
    """
    import numpy as np

    from calibration import images

    if files:
        rows = [images.preprocess(images.decode(path), recipe.preprocessing) for path in files]
        own = [path.name for path in files]
    else:
        rows = [row for row, _ in itertools.islice(recipe.held_out(recipe), len(PHOTOGRAPHS))]
        own = [f"held-out image {i}" for i in range(len(rows))]
    noise = np.random.default_rng(SEED).standard_normal((NOISE_ROWS, *recipe.inputs[0].shape), dtype=np.float32)
    names = (*own, *(f"noise {i}" for i in range(NOISE_ROWS)))
    return Samples(np.concatenate([np.stack(rows), noise]), names)


def schedule(count: int, batch: Batch, noise: bool = True) -> list[np.ndarray]:
    """Which rows run together: the profile's minimum, an odd batch, the profile's maximum; together all of them.

    Rows are shuffled, and repeated where a batch is larger than their number, so a graph that has a batch size or a
    row's position baked in gives some row the answer of another. Further batches follow until every row was used.
    Without ``noise`` the last ``NOISE_ROWS`` of the ``count`` take no part: that is how 8 bits are judged, which are
    calibrated for images and clip what no image has.
    """
    import numpy as np

    count -= 0 if noise else NOISE_ROWS
    rng = np.random.default_rng(SEED)
    due = list(sizes(batch))
    plan = []
    order = list(rng.permutation(count))
    unused = list(order)
    while due or unused:
        size = due.pop(0) if due else batch.max
        rows = [unused.pop() for _ in range(min(size, len(unused)))]
        rows += [int(i) for i in rng.choice(count, size - len(rows), replace=size - len(rows) > count)]
        plan.append(rng.permutation(np.array(rows, dtype=np.int64)))
    return plan


def sizes(batch: Batch) -> tuple[int, ...]:
    """The batches at which graphs are compared: the profile's smallest, an odd one, the largest, each once."""
    return tuple(dict.fromkeys((batch.min, odd(batch), batch.max)))


def odd(batch: Batch) -> int:
    """An odd batch size that the profile takes, 3 where it can; the maximum where there is no odd one above 1."""
    if batch.min <= 3 <= batch.max:
        return 3
    first = batch.min if batch.min % 2 else batch.min + 1
    return first if first <= batch.max and first > 1 else batch.max
