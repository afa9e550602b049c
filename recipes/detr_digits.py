"""A small DETR trained to find handwritten digits: real average precision on a machine that reaches no model hub.

A scene is a canvas with one to five of scikit-learn's digits (``recipes/digits.py``) in random sizes, places and
colours; scenes of the held-out digits are drawn with a fixed seed. The module is transformers' DETR with its
own ResNet of basic blocks at stride 8; the weights are in ``recipes/trained/``, ``make train`` makes them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from exporter.types import ModuleSpec, Preprocessing, Recipe, TensorSpec, canonical
from recipes import detr, digits

if TYPE_CHECKING:
    import numpy as np

    from exporter.average_precision import Boxes

CANVAS = 64
SIDES = (16, 29)
"""A digit's 8x8 pixels are enlarged to a square of 16 to 28 pixels."""
MOST = 5
OVERLAP = 0.1
"""The largest share of the smaller of two boxes that the other may cover."""
TRIES = 20
"""Places that are tried for a digit before the scene goes without it."""
TURN = 10
"""Largest rotation of a digit in degrees, either way."""
INK = 96
"""A digit's box is the smallest one around its pixels that are at least this dark, of 255."""
SCENES = 400
"""Held-out scenes."""


def build(spec: ModuleSpec):
    """DETR with random weights for ``spec.classes`` classes; (pixels) -> (logits, boxes)."""
    return detr.configured(configuration(spec.classes))


def configuration(classes: int, **named):
    """Two encoder and three decoder layers of 64 channels, two heads, twelve object queries."""
    from transformers import DetrConfig, ResNetConfig

    backbone = ResNetConfig(
        embedding_size=32, hidden_sizes=[32, 64], depths=[1, 2], layer_type="basic", out_features=["stage2"]
    )
    sizes = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in LAYER.items()}
    return DetrConfig(
        num_labels=classes, backbone_config=backbone, d_model=64, num_queries=12, dropout=0.0,
        encoder_layers=2, decoder_layers=3, **sizes, **named,
    )  # fmt: skip


LAYER = {"attention_heads": 2, "ffn_dim": 256}


def scene(pictures: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Boxes]:
    """((64, 64, 3) uint8, its boxes) of digits drawn from (N, 8, 8) uint8 ``pictures``, at least one."""
    import numpy as np

    from exporter.average_precision import Boxes

    canvas = np.full((CANVAS, CANVAS, 3), rng.integers(0, 64, 3), np.float32)
    corners: list[tuple] = []
    classes: list[int] = []
    for number in rng.integers(len(pictures), size=rng.integers(1, MOST + 1)):
        ink, tight = _enlarged(pictures[number], int(rng.integers(*SIDES)), float(rng.uniform(-TURN, TURN)))
        for left, top in rng.integers(0, CANVAS - len(ink) + 1, (TRIES, 2)).tolist():
            box = (tight[0] + left, tight[1] + top, tight[2] + left, tight[3] + top)
            if all(_covered(box, other) <= OVERLAP for other in corners):
                part = canvas[top : top + len(ink), left : left + len(ink)]
                part += (ink[..., None] / np.float32(255)) * (rng.integers(144, 256, 3) - part)
                corners.append(box)
                classes.append(int(labels[number]))
                break
    canvas += 6 * rng.standard_normal(canvas.shape, np.float32)
    return np.rint(canvas.clip(0, 255)).astype(np.uint8), Boxes(np.array(corners, float), np.array(classes))


def _enlarged(picture: np.ndarray, side: int, turn: float) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """((side, side) float32 ink, left, top, right, bottom of what is dark in it)."""
    import numpy as np
    from PIL import Image

    large = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)
    ink = np.asarray(large.rotate(turn, Image.Resampling.BILINEAR), np.float32)
    dark = ink >= INK
    columns, rows = (np.flatnonzero(dark.any(axis)).tolist() for axis in (0, 1))
    return ink, (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def _covered(box: tuple, other: tuple) -> float:
    """The area that two boxes share, of the smaller one's."""
    (a, b, c, d), (left, top, right, bottom) = box, other
    shared = max(min(c, right) - max(a, left), 0) * max(min(d, bottom) - max(b, top), 0)
    return shared / min((c - a) * (d - b), (right - left) * (bottom - top))


def scenes(part: tuple, seed: int, count: int | None = None) -> Iterator[tuple[np.ndarray, Boxes]]:
    """``count`` scenes, or without an end, of one part of :func:`recipes.digits.split`."""
    import numpy as np

    rng = np.random.default_rng(seed)
    while count is None or count > 0:
        yield scene(*part, rng)
        count = None if count is None else count - 1


def pixels(picture: np.ndarray, recipe: Recipe) -> np.ndarray:
    """(3, H, W) float32 of one (64, 64, 3) uint8 scene, preprocessed as a photograph is."""
    from PIL import Image

    from calibration import images

    return images.preprocess(Image.fromarray(picture), recipe.preprocessing)


def held_out(recipe: Recipe) -> Iterator[tuple[np.ndarray, Boxes]]:
    """((3, H, W) float32, its boxes) of the held-out scenes, in the canvas's pixels."""
    for picture, truth in scenes(digits.split()[1], digits.SEED, SCENES):
        yield pixels(picture, recipe), truth


def calibration(recipe: Recipe) -> Iterator[np.ndarray]:
    """(3, H, W) float32 of scenes of the digits that were trained on, without an end."""
    return (pixels(picture, recipe) for picture, _ in scenes(digits.split()[0], digits.SEED + 1))


RECIPES = (
    Recipe(
        name="detr_digits",
        family="detr_digits",
        paper=detr.PAPER,
        build=build,
        adapt=detr.adapt,
        shipped=digits.TRAINED / "detr_digits.safetensors",
        task="detection",
        classes=10,
        preprocessing=Preprocessing((CANVAS, CANVAS), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", mode="squash"),
        outputs=(
            TensorSpec("logits", "scores of each query's classes, the last one is no object"),
            TensorSpec("boxes", "centre x, centre y, width, height as shares of the image, per query"),
        ),
        published=(0.47, 0.05),
        image_multiple=32,
        fixed_image=True,
        head=("class_labels_classifier.weight",),
        head_extra=1,
        wide=detr.WIDE,
        rewrites=canonical(static_shapes=84, fold_data_free=8, fold_batch_normalization=16, attention_form=8),
        attention_blocks=8,
        fused_attention={"fp16": 8, "bf16": 8},
        calibration=calibration,
        held_out=held_out,
    ),
)
