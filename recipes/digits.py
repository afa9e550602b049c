"""Small networks trained on handwritten digits: real accuracy on a machine that reaches no model hub.

The images are scikit-learn's ``load_digits`` (1797 of 8x8 pixels, UCI's "Optical Recognition of Handwritten Digits");
a quarter of them, drawn with a fixed seed, is held out. The modules are timm's, the weights are in
``recipes/trained/``, and ``make train`` makes them again.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from exporter.types import ModuleSpec, Preprocessing, Recipe, TensorSpec, canonical

TRAINED = Path(__file__).parent / "trained"
HELD_OUT = 450
SEED = 0


def _vit(spec: ModuleSpec):
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=spec.image, patch_size=4, embed_dim=96, depth=4, num_heads=3, num_classes=spec.classes
    )


def _mixer(spec: ModuleSpec):
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(img_size=spec.image, patch_size=4, num_blocks=4, embed_dim=96, num_classes=spec.classes)


def _swin(spec: ModuleSpec):
    """Two stages of 4x4 windows; the second block of each stage shifts them, the first stage's by 2 of 16x16 tokens."""
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(
        img_size=spec.image,
        patch_size=2,
        window_size=4,
        embed_dim=64,
        depths=(2, 2),
        num_heads=(2, 4),
        mlp_ratio=3.0,
        num_classes=spec.classes,
    )


def build(spec: ModuleSpec, make):
    """The module in eval mode."""
    return make(spec).eval()


@functools.cache
def split() -> tuple:
    """((N, 8, 8) uint8, (N,) labels) to train on, and the same held out."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(SEED).permutation(len(pictures))
    held, train = order[:HELD_OUT], order[HELD_OUT:]
    return (pictures[train], digits.target[train]), (pictures[held], digits.target[held])


def pixels(picture, recipe: Recipe):
    """(3, H, W) float32 of one (8, 8) uint8 picture, preprocessed as a photograph is."""
    from PIL import Image

    from calibration import images

    return images.preprocess(Image.fromarray(picture).convert("RGB"), recipe.preprocessing)


def held_out(recipe: Recipe) -> Iterator[tuple]:
    """((3, H, W) float32, label) of every digit that no training saw."""
    for picture, label in zip(*split()[1], strict=True):
        yield pixels(picture, recipe), int(label)


def calibration(recipe: Recipe) -> Iterator:
    """(3, H, W) float32 of the digits that were trained on."""
    return (pixels(picture, recipe) for picture in split()[0][0])


def _recipe(name: str, make, paper: str, published: tuple[float, float], attentions: int = 0, **rewrites) -> Recipe:
    return Recipe(
        name=name,
        family="digits",
        paper=paper,
        build=partial(build, make=make),
        shipped=TRAINED / f"{name}.safetensors",
        preprocessing=Preprocessing((32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        outputs=(TensorSpec("logits", "class scores before the softmax"),),
        published=published,
        image_multiple=32,
        fixed_image=True,
        classes=10,
        head=("head.weight", "head.fc.weight"),
        rewrites=canonical(attention_form=attentions, **rewrites),
        attention_blocks=attentions,
        fused_attention={"fp16": attentions, "bf16": attentions},
        unbiased=attentions,
        calibration=calibration,
        held_out=held_out,
    )


RECIPES = (
    _recipe("vit_digits", _vit, "Dosovitskiy et al. 2021, arXiv:2010.11929", (0.46, 0.03), 4, patch_embedding=1),
    _recipe(
        "swin_digits",
        _swin,
        "Liu et al. 2021, arXiv:2103.14030",
        (0.45, 0.05),
        4,
        fold_attention_biases=8,
        cancel_permutations=9,
        patch_embedding=1,
    ),
    _recipe(
        "mixer_digits",
        _mixer,
        "Tolstikhin et al. 2021, arXiv:2105.01601",
        (0.33, 0.02),
        token_mixing=4,
        skip=("patch_embedding",),
    ),
)
