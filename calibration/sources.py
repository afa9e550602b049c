"""Where calibration images come from: a folder, an array file, a generator of the recipe; streamed, a seeded subset.

Images are decoded when their turn comes, so memory does not grow with their number. A file that cannot be read is
skipped, named and counted; where more than 5 % of them are, the folder is not what it was taken for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration import images
from calibration.decoding import decoded
from exporter.errors import UsageError
from exporter.types import Recipe

DEFAULT_COUNT = 512
SEED = 0
LARGEST = 4 << 30
"""Bytes of an array that is unpacked into memory."""


@dataclass(frozen=True)
class Source:
    """``rows()`` yields (3, H, W) float32, ``count`` of them at most; ``said(name, why)`` is told of skipped files.

    ``files`` are those that the rows are read from; a ``fingerprint`` of their bytes is the caller's matter.
    """

    name: str
    count: int
    rows: Callable[[Callable[[str, str], None]], Iterator[np.ndarray]]
    files: tuple[Path, ...] = ()
    few: str = ""
    """A warning where fewer images are there than were asked for."""


def source(where: Path | None, recipe: Recipe, count: int, default: list[Path]) -> Source:
    """The source that ``CALIB`` names; without one the recipe's own generator, else the photographs of parity."""
    if where is None and recipe.calibration is not None:
        return Source(f"{recipe.name}'s own images", count, lambda said: _first(recipe.calibration(recipe), count))
    if where is not None and where.suffix.lower() in (".npy", ".npz"):
        return _array(where, recipe, count)
    found = default if where is None else images.files(where)
    chosen = subset(found, count)
    name = str(where) if where is not None else "the photographs of parity"
    few = f"{len(found)} images to calibrate on, {count} were asked for" if len(found) < count else ""
    return Source(name, len(chosen), lambda said: _decoded(chosen, recipe, said), tuple(chosen), few)


def subset(found: list, count: int) -> list:
    """``count`` of the list, drawn with a fixed seed, in the list's order."""
    if len(found) <= count:
        return list(found)
    drawn = np.random.default_rng(SEED).choice(len(found), count, replace=False)
    return [found[i] for i in sorted(drawn)]


def _first(rows: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    for _, row in zip(range(count), rows, strict=False):
        yield np.asarray(row, np.float32)


def _decoded(files: list[Path], recipe: Recipe, said: Callable[[str, str], None]) -> Iterator[np.ndarray]:
    where = os.path.commonpath(files) if len(files) > 1 else str(files[0].parent)
    for _, picture in decoded(files, said, where, "calibrate", "CALIB=<a folder of photographs>"):
        yield images.preprocess(picture, recipe.preprocessing)


def _array(where: Path, recipe: Recipe, count: int) -> Source:
    """(N, 3, H, W) floats, preprocessed: a .npy file, or the only array (or ``pixels``) of a .npz file."""
    shape = recipe.inputs[0].shape

    def refuse(found: str) -> UsageError:
        return UsageError(
            f"{where} holds no images of this model",
            stage="calibrate",
            found=found,
            expected=f"an array of floats (N, {', '.join(map(str, shape))}), preprocessed as the recipe says",
            next="CALIB=<a folder of photographs>",
        )

    try:
        stored = np.load(where, mmap_mode="r", allow_pickle=False)
        if isinstance(stored, np.lib.npyio.NpzFile):
            names = stored.files
            if "pixels" not in names and len(names) != 1:
                raise refuse(f"the arrays {', '.join(names) or 'none'}")
            size = max(member.file_size for member in stored.zip.infolist())
            if size > LARGEST:
                raise refuse(f"{size / 2**30:.1f} GiB when unpacked; a .npy file is read in place")
            stored = stored["pixels" if "pixels" in names else names[0]]
        if not isinstance(stored, np.ndarray):
            raise refuse("a file that is no array")
    except UsageError:
        raise
    except Exception as error:  # numpy, zipfile and zlib raise whatever damaged bytes make them stumble over
        raise refuse(next(iter(str(error).splitlines()), type(error).__name__)) from None
    if stored.ndim != 4 or tuple(stored.shape[1:]) != shape or stored.dtype.kind != "f" or not len(stored):
        raise refuse(f"{stored.dtype} {stored.shape}")
    chosen = subset(list(range(len(stored))), count)
    few = f"{len(stored)} images to calibrate on, {count} were asked for" if len(stored) < count else ""
    return Source(
        str(where), len(chosen), lambda said: (np.asarray(stored[i], np.float32) for i in chosen), (where,), few
    )
