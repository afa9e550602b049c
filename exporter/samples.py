"""What parity is measured on: photographs and seeded noise, and the batches that they are run in."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.errors import UsageError
from exporter.store import sha256_file, sha256_text
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


def paths(folder: Path | None) -> list[Path]:
    """The files that parity runs on: of the user's folder, else the shipped photographs."""
    if folder is None:
        return shipped()
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
    """Decode and preprocess ``files`` as the recipe says, and add the noise; a file that is no image is an error."""
    import numpy as np

    from calibration import images

    rows = [images.preprocess(images.decode(path), recipe.preprocessing) for path in files]
    noise = np.random.default_rng(SEED).standard_normal((NOISE_ROWS, *recipe.inputs[0].shape), dtype=np.float32)
    names = (*(path.name for path in files), *(f"noise {i}" for i in range(NOISE_ROWS)))
    return Samples(np.concatenate([np.stack(rows), noise]), names)


def schedule(count: int, batch: Batch) -> list[np.ndarray]:
    """Which rows run together: the profile's minimum, an odd batch, the profile's maximum; together all of them.

    Rows are shuffled, and repeated where a batch is larger than their number, so a graph that has a batch size or a
    row's position baked in gives some row the answer of another. Further batches follow until every row was used.
    """
    import numpy as np

    rng = np.random.default_rng(SEED)
    sizes = list(dict.fromkeys((batch.min, odd(batch), batch.max)))
    plan = []
    order = list(rng.permutation(count))
    unused = list(order)
    while sizes or unused:
        size = sizes.pop(0) if sizes else batch.max
        rows = [unused.pop() for _ in range(min(size, len(unused)))]
        rows += [int(i) for i in rng.choice(count, size - len(rows), replace=size - len(rows) > count)]
        plan.append(rng.permutation(np.array(rows, dtype=np.int64)))
    return plan


def odd(batch: Batch) -> int:
    """An odd batch size that the profile takes, 3 where it can; the maximum where there is no odd one above 1."""
    if batch.min <= 3 <= batch.max:
        return 3
    first = batch.min if batch.min % 2 else batch.min + 1
    return first if first <= batch.max and first > 1 else batch.max
