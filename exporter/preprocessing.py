"""What is done to a photograph before a model sees it, as facts: :mod:`calibration.images` does it."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.errors import UsageError

MODES = ("crop", "squash")
INTERPOLATIONS = {"nearest": 0, "bilinear": 2, "bicubic": 3, "lanczos": 1}
"""By name, with Pillow's numbers for them."""


@dataclass(frozen=True)
class Preprocessing:
    """How an RGB photograph becomes the model's input, with the names that timm and torchvision use.

    The image is resized to cover ``size / crop_pct`` (``mode`` ``crop``, which keeps the aspect ratio) or to just that
    (``squash``, which gives it up), then the centre of ``size``, height and width, is cut out. Pixels are scaled to
    0..1, then ``(x - mean) / std`` per channel; the layout is NCHW.

    ``frames`` makes a clip of the photograph, NCTHW: a camera that moves to the right, two pixels a frame, about the
    centre, as far as the resized image reaches. 0 is one image.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    crop_pct: float = 1.0
    mode: str = "crop"
    frames: int = 0

    def __post_init__(self):
        if self.mode not in MODES or self.interpolation not in INTERPOLATIONS:
            raise _impossible(
                f"mode {self.mode!r}, interpolation {self.interpolation!r}",
                f"a mode of {', '.join(MODES)}; an interpolation of {', '.join(INTERPOLATIONS)}",
            )
        if not all(self.std) or not 0 < self.crop_pct <= 2:
            raise _impossible(
                f"std {self.std}, crop_pct {self.crop_pct}",
                "a std that is not 0 for each channel, a crop_pct between 0 and 2",
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The input's axes after the batch."""
        return (3, self.frames, *self.size) if self.frames else (3, *self.size)

    @property
    def layout(self) -> str:
        return "NCTHW" if self.frames else "NCHW"


def _impossible(found: str, expected: str) -> UsageError:
    hint = "change the recipe's Preprocessing"
    return UsageError("there is no such preprocessing", found=found, expected=expected, next=hint)
