"""Photographs to model inputs, as timm's and torchvision's evaluation transforms do it, with Pillow and numpy.

EXIF orientation is applied, an alpha channel is dropped, 16-bit and palette images become 8-bit RGB.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from exporter.errors import UsageError
from exporter.types import Preprocessing

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
MAX_PIXELS = 178_956_970
"""Pillow's own limit against decompression bombs; above it a file is refused, not decoded."""

INTERPOLATION = {"nearest": 0, "bilinear": 2, "bicubic": 3, "lanczos": 1}


def files(folder: Path) -> list[Path]:
    """The image files below ``folder`` by suffix, any nesting, sorted; :class:`UsageError` if there are none."""
    if not folder.is_dir():
        raise UsageError(
            f"the image folder {folder} does not exist",
            found="no such folder",
            expected="a folder with JPEG, PNG or WebP files",
            next="IMAGES=<folder>",
        )
    everything = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    found = [p for p in everything if p.suffix.lower() in SUFFIXES]
    if not found:
        raise UsageError(
            f"there are no images in {folder}",
            found=f"{len(everything)} files, none of them an image" if everything else "an empty folder",
            expected=f"files that end in {', '.join(sorted(SUFFIXES))}",
            next="IMAGES=<folder>",
        )
    return found


def decode(path: Path) -> Image.Image:
    """The picture as 8-bit RGB, upright; :class:`UsageError` names a file that is none."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UsageError(
                    f"{path} is too large to decode",
                    found=f"{image.width}x{image.height} pixels",
                    expected=f"at most {MAX_PIXELS} pixels",
                    next="take it out of the folder",
                )
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith(("I;16", "I")):
                values = np.asarray(image, dtype=np.float64)
                image = Image.fromarray((values / 257.0 if values.max(initial=0) > 255 else values).astype(np.uint8))
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(
            f"{path} is not an image that can be read",
            found=str(error).splitlines()[0],
            expected="a JPEG, PNG or WebP file",
            next="take it out of the folder",
        ) from None


def preprocess(image: Image.Image, how: Preprocessing) -> np.ndarray:
    """One RGB image as (3, H, W) float32, resized, cropped and normalised as ``how`` says."""
    filter_ = Image.Resampling(INTERPOLATION[how.interpolation])
    height, width = how.size
    if how.mode == "squash":
        image = image.resize((width, height), filter_)
    else:
        image = _resize_shorter(image, int(min(how.size) / how.crop_pct), filter_)
        image = _center_crop(image, height, width)
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    normalised = (pixels - np.asarray(how.mean, np.float32)) / np.asarray(how.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))


def _resize_shorter(image: Image.Image, size: int, filter_: Image.Resampling) -> Image.Image:
    """The shorter side becomes ``size``, the longer follows, rounded down as torchvision does."""
    width, height = image.size
    if width <= height:
        return image.resize((size, int(size * height / width)), filter_)
    return image.resize((int(size * width / height), size), filter_)


def _center_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    """The middle ``height`` x ``width``; what lies outside of a smaller image is black."""
    left = round((image.width - width) / 2)
    top = round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
