"""R+ViT: a ResNet V2 makes the tokens of a ViT (Dosovitskiy 2021, Steiner 2021).

Its convolutions standardise their weights, which is a constant at inference and folds away; its group normalisations
stay in FP32. Modules and weights are timm's ``vit_*_r*``.
"""

from __future__ import annotations

from functools import partial

from exporter.types import Preprocessing, Recipe, canonical
from recipes._shallow import shallow
from recipes._timm import adapt, build

PAPER = "Dosovitskiy et al. 2021, arXiv:2010.11929; Steiner et al. 2021, arXiv:2106.10270"


@shallow(depth=2, few=2)
def _hybrid(
    name: str,
    arch: str,
    tag: str,
    published: tuple[float, float],
    multiple: int,
    size: int = 224,
    depth: int = 12,
    few: int | None = None,
) -> Recipe:
    return Recipe(
        name=name,
        family="vit_hybrid",
        paper=PAPER,
        build=partial(build, name=arch, few=few),
        adapt=adapt,
        hub=f"timm/{arch}.{tag}",
        preprocessing=Preprocessing(
            (size, size), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), crop_pct=0.9 if size == 224 else 1.0
        ),
        published=published,
        image_multiple=multiple,
        fixed_image=True,
        rewrites=canonical(
            static_shapes=8 * depth + 1, early_selection=8, attention_form=depth, fold_attention_biases=2 * depth
        ),
        attention_blocks=depth,
        fused_attention={"fp16": depth, "bf16": depth},
        unbiased=depth,
    )


RECIPES = (
    _hybrid("r26_vit_s32", "vit_small_r26_s32_224", "augreg_in21k_ft_in1k", (36.4, 3.5), 32),
    # 61.3 GFLOPs and the products of attention, which timm leaves out
    _hybrid("r50_vit_b16", "vit_base_r50_s16_384", "orig_in21k_ft_in1k", (99.0, 67.2), 16, size=384),
)
