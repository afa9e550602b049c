"""A photograph as the model saw it, small enough to lie inside a page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from exporter.types import Preprocessing

LONGEST = 224
QUALITY = 80


def as_seen(path: Path, preprocessing: Preprocessing) -> str:
    """A ``data:`` address of the resized and cropped photograph (of a clip: its middle), a JPEG of at most 224 pixels.

    Raises :class:`UsageError` for a file that is no image.
    """
    import numpy as np
    from PIL import Image

    from calibration import images

    made = images.preprocess(images.decode(path), preprocessing)
    if preprocessing.frames:
        made = made[:, preprocessing.frames // 2]
    mean, std = (np.asarray(v, np.float32)[:, None, None] for v in (preprocessing.mean, preprocessing.std))
    levels = np.rint((made * std + mean) * 255).clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(levels.transpose(1, 2, 0))
    picture.thumbnail((LONGEST, LONGEST))
    raw = io.BytesIO()
    picture.save(raw, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(raw.getvalue()).decode()
