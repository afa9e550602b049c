"""Photographs to model inputs, as timm's and torchvision's evaluation transforms do it, with Pillow and numpy.

EXIF orientation is applied, an alpha channel is dropped, 16-bit and palette images become 8-bit RGB.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from exporter.errors import UsageError
from exporter.preprocessing import INTERPOLATIONS, Preprocessing

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
MAX_PIXELS = 178_956_970
"""Where Pillow itself takes a file for a decompression bomb; above it a file is refused, not decoded."""

ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What EXIF's number says must be done to see the picture upright."""


def files(folder: Path) -> list[Path]:
    """The image files below ``folder`` by suffix, any nesting, sorted; :class:`UsageError` if there are none."""
    if not os.path.isdir(folder):  # unlike Path's, no error where the name is too long
        raise UsageError(
            f"{folder} is not a folder" if os.path.lexists(folder) else f"the image folder {folder} does not exist",
            found=_instead(folder),
            expected="a folder with JPEG, PNG or WebP files",
            next="IMAGES=<folder>",
        )
    everything = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    found = [p for p in everything if p.suffix.lower() in SUFFIXES]
    if not found and not everything and (odd := _no_files(folder)):
        raise UsageError(
            f"there are no images in {folder}",
            found=odd,
            expected=f"files that end in {', '.join(sorted(SUFFIXES))}",
            next="IMAGES=<folder>",
        )
    if not found:
        raise UsageError(
            f"there are no images in {folder}",
            found=f"{len(everything)} {'file' if len(everything) == 1 else 'files'}, none of them an image"
            if everything
            else "an empty folder",
            expected=f"files that end in {', '.join(sorted(SUFFIXES))}",
            next="IMAGES=<folder>",
        )
    return found


def _instead(path: Path) -> str:
    """What is where a folder should be."""
    if os.path.islink(path) and not os.path.exists(path):
        return f"a link to {os.readlink(path)}, which does not exist"
    if not os.path.exists(path):
        return "no such folder"
    return "a file" if os.path.isfile(path) else f"a {_kind(path)}"


def _no_files(folder: Path) -> str:
    """What a folder without files holds that looks like some: links to nothing, pipes, sockets, devices."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not path.exists():
            return f"{path.name}, a link to {os.readlink(path)}, which does not exist"
        if not path.is_dir():
            return f"{path.name}, a {_kind(path)} and no file"
    return ""


def _kind(path: Path) -> str:
    return "pipe" if path.is_fifo() else "socket" if path.is_socket() else "device"


def decode(path: Path) -> Image.Image:
    """The picture as 8-bit RGB, upright; :class:`UsageError` names a file that is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS decides
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels")
                image.load()
                return _eight_bits(_upright(image)).convert("RGB")
    except Image.DecompressionBombError as error:
        raise UsageError(
            f"{path} is too large to decode",
            found=str(error),
            expected=f"at most {MAX_PIXELS} pixels",
            next="take it out of the folder",
        ) from None
    except Exception as error:  # Pillow's readers raise whatever damaged bytes make them stumble over
        raise UsageError(
            f"{path} is not an image that can be read",
            found=next(iter(str(error).splitlines()), type(error).__name__),
            expected="a JPEG, PNG or WebP file",
            next="take it out of the folder",
        ) from None


def _upright(image: Image.Image) -> Image.Image:
    """The picture as the camera's EXIF tag says; unlike ``ImageOps.exif_transpose`` it writes no tags back."""
    turn = ORIENTATION.get(image.getexif().get(ExifTags.Base.Orientation))
    return image if turn is None else image.transpose(turn)


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey (in a 32-bit file too) as the nearest of 256 levels; a palette without its transparency."""
    if image.mode.startswith("I"):
        levels = np.rint(np.asarray(image, dtype=np.float64) / 257)
        return Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    image.info.pop("transparency", None)
    return image


def preprocess(image: Image.Image, how: Preprocessing) -> np.ndarray:
    """One RGB image as (3, H, W) float32, resized, cropped and normalised as ``how`` says; a clip as (3, T, H, W)."""
    height, width = _resized((image.height, image.width), how)
    if height * width > MAX_PIXELS:
        raise UsageError(
            "the image is too long for its width",
            found=f"{image.width}x{image.height} pixels, {width}x{height} when the shorter side fits the model",
            expected=f"at most {MAX_PIXELS} pixels",
            next="cut it",
        )
    image = image.resize((width, height), Image.Resampling(INTERPOLATIONS[how.interpolation]))
    if how.frames:
        return np.stack([_normalised(_center_crop(image, *how.size, at), how) for at in _pan(how, width)], 1)
    return _normalised(_center_crop(image, *how.size), how)


def _normalised(image: Image.Image, how: Preprocessing) -> np.ndarray:
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    normalised = (pixels - np.asarray(how.mean, np.float32)) / np.asarray(how.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))


def window(size: tuple[int, int], how: Preprocessing) -> tuple[float, float, float, float]:
    """What the model sees of a picture of ``size`` (height, width): left, top, width, height in its pixels."""
    height, width = _resized(size, how)
    top, left = (round((long - short) / 2) for long, short in zip((height, width), how.size, strict=True))
    down, across = size[0] / height, size[1] / width
    return left * across, top * down, how.size[1] * across, how.size[0] * down


PAN = 2
"""Pixels that the camera of a clip moves to the right from frame to frame."""


def _pan(how: Preprocessing, width: int) -> list[int]:
    """How far from the middle each frame is cut out, inside of an image so many pixels wide."""
    left = round((width - how.size[1]) / 2)
    steps = (PAN * frame - PAN * (how.frames - 1) // 2 for frame in range(how.frames))
    return [min(max(step, -left), width - how.size[1] - left) for step in steps]


def _resized(size: tuple[int, int], how: Preprocessing) -> tuple[int, int]:
    """Height and width before the crop, rounded as the library does that timm's transform calls.

    torchvision rounds the longer side of a square input down, timm those of an oblong input to the nearest.
    """
    height, width = (int(side / how.crop_pct) for side in how.size)
    if how.mode == "squash":
        return height, width
    if height == width:
        shorter = min(size)
        return int(height * size[0] / shorter), int(width * size[1] / shorter)
    ratio = min(size[0] / height, size[1] / width)
    return round(size[0] / ratio), round(size[1] / ratio)


def _center_crop(image: Image.Image, height: int, width: int, aside: int = 0) -> Image.Image:
    """The middle ``height`` x ``width``, or what is so many pixels to the right of it."""
    left = round((image.width - width) / 2) + aside
    top = round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
