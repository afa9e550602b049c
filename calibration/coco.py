"""A COCO ``instances`` file: which file of a folder shows which objects (Lin et al. 2014, arXiv:1405.0312)."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from exporter.errors import UsageError

EXPECTED = "COCO's instances: lists of images (id, file_name) and annotations (image_id, category_id, bbox)"


@dataclass(frozen=True)
class Instance:
    """``corners`` are left, top, right, bottom in pixels of the file; ``category`` is COCO's id, not an index."""

    corners: tuple[float, float, float, float]
    category: int
    crowd: bool


def instances(file: Path) -> dict[str, list[Instance]]:
    """The objects of every image by its file's name, none where it shows nothing.

    Raises :class:`UsageError` for a file that cannot be read or is no such JSON, with the entry that is wrong.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _bad(file, str(error)) from None
    lists = [content.get(key) if isinstance(content, dict) else None for key in ("images", "annotations")]
    if not all(isinstance(entries, list) for entries in lists):
        raise _bad(file, "no lists of images and annotations")
    names: dict[int, str] = {}
    for place, entry in enumerate(lists[0]):
        if not _has(entry, id=int, file_name=str) or entry["id"] in names:
            raise _bad(file, f"images[{place}] has no id of its own or no file_name")
        names[entry["id"]] = entry["file_name"]
    found: dict[str, list[Instance]] = {name: [] for name in names.values()}
    for place, entry in enumerate(lists[1]):
        if not _has(entry, image_id=int, category_id=int, bbox=list):
            raise _bad(file, f"annotations[{place}] has no image_id, category_id or bbox")
        if entry["image_id"] not in names:
            raise _bad(file, f"annotations[{place}] is of image {entry['image_id']}, which is not listed")
        if not _is_box(entry["bbox"]):
            raise _bad(file, f"annotations[{place}] has the bbox {entry['bbox']}, not left, top, width and height")
        left, top, width, height = map(float, entry["bbox"])
        corners = (left, top, left + width, top + height)
        found[names[entry["image_id"]]].append(Instance(corners, entry["category_id"], entry.get("iscrowd", 0) == 1))
    return found


def _has(entry: object, **types: type) -> bool:
    """Whether a JSON object has these keys with values of these types; true and false are no numbers."""
    return isinstance(entry, dict) and all(type(entry.get(key)) is kind for key, kind in types.items())


def _is_box(box: list) -> bool:
    numbers = len(box) == 4 and all(type(v) in (int, float) and math.isfinite(v) for v in box)
    return numbers and box[2] >= 0 and box[3] >= 0


def _bad(file: Path, found: str) -> UsageError:
    return UsageError(f"{file} is no COCO annotation file", stage="accuracy", found=found, expected=EXPECTED)
