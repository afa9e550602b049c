"""A folder's pictures one after the other; some may be unreadable, not many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from calibration import images
from exporter.errors import UsageError

MOST_CORRUPT = 0.05


def decoded(
    files: Sequence[Path], said: Callable[[str, str], None], where: str, stage: str, hint: str
) -> Iterator[tuple[Path, Image.Image]]:
    """(path, RGB picture) of every file that can be read; ``said(name, why)`` is told of the others.

    Raises :class:`UsageError` where more than ``MOST_CORRUPT`` of them cannot: ``where`` is not what it was taken for.
    """
    corrupt = 0
    for place, path in enumerate(files, 1):
        try:
            picture = images.decode(path)
        except UsageError as error:
            corrupt += 1
            said(str(path), str(error.found))
            if corrupt > MOST_CORRUPT * len(files):
                raise UsageError(
                    f"too many files of {where} are no images",
                    stage=stage,
                    found=f"{corrupt} of the first {place} cannot be read, the last one {path.name}: {error.found}",
                    expected=f"at most {MOST_CORRUPT:.0%} of {len(files)}",
                    next=hint,
                ) from None
            continue
        yield path, picture
