"""ViT: an image is 16x16 words (Dosovitskiy 2021), in the sizes of Steiner 2021.

A class token, learned positions, and identical blocks of global attention and MLP. Modules and weights are
timm's ``vit_*``.
"""

from __future__ import annotations

from functools import partial

from exporter.types import Preprocessing, Recipe, TensorSpec, canonical
from recipes._shallow import shallow
from recipes._timm import adapt, build

PAPER = "Dosovitskiy et al. 2021, arXiv:2010.11929; Steiner et al. 2021, arXiv:2106.10270"


@shallow(depth=2, few=2)
def _vit(
    name: str,
    arch: str,
    tag: str,
    published: tuple[float, float],
    *,
    depth: int = 12,
    few: int | None = None,
    size: int = 224,
    patch: int = 16,
    crop_pct: float = 0.9,
) -> Recipe:
    return Recipe(
        name=name,
        family="vit",
        paper=PAPER,
        build=partial(build, name=arch, few=few),
        adapt=adapt,
        hub=f"timm/{arch}.{tag}",
        preprocessing=Preprocessing((size, size), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), crop_pct=crop_pct),
        outputs=(TensorSpec("logits", "class scores before the softmax"),),
        published=published,
        image_multiple=patch,
        rewrites=canonical(
            static_shapes=8 * depth + 1,
            early_selection=8,
            patch_embedding=1,
            attention_form=depth,
            fold_attention_biases=2 * depth,
        ),
        attention_blocks=depth,
        fused_attention={"fp16": depth, "bf16": depth},
        unbiased=depth,
    )


RECIPES = (
    _vit("vit_ti", "vit_tiny_patch16_224", "augreg_in21k_ft_in1k", (5.7, 1.3)),
    _vit("vit_s", "vit_small_patch16_224", "augreg_in21k_ft_in1k", (22.1, 4.6)),
    _vit("vit_b", "vit_base_patch16_224", "augreg2_in21k_ft_in1k", (86.6, 17.6)),
    _vit("vit_l", "vit_large_patch16_224", "augreg_in21k_ft_in1k", (304.3, 61.6), depth=24),
    _vit("vit_b32", "vit_base_patch32_224", "augreg_in21k_ft_in1k", (88.2, 4.4), patch=32),
    _vit(
        "vit_l32",
        "vit_large_patch32_384",
        "orig_in21k_ft_in1k",
        (306.6, 45.3),
        depth=24,
        size=384,
        patch=32,
        crop_pct=1.0,
    ),
)
