"""DeiT: the ViT's architecture, trained on ImageNet alone; distilled, it has a token and a head more (Touvron 2021).

A distilled model answers the mean of its two heads. Modules and weights are timm's ``deit_*``.
"""

from __future__ import annotations

from functools import partial

from exporter.types import Preprocessing, Recipe, canonical
from recipes._shallow import shallow
from recipes._timm import adapt, build

PAPER = "Touvron et al. 2021, arXiv:2012.12877"


@shallow(depth=2, few=2)
def _deit(
    name: str,
    arch: str,
    published: tuple[float, float],
    distilled: bool = False,
    depth: int = 12,
    few: int | None = None,
) -> Recipe:
    return Recipe(
        name=name,
        family="deit",
        paper=PAPER,
        build=partial(build, name=arch, few=few),
        adapt=adapt,
        hub=f"timm/{arch}.fb_in1k",
        preprocessing=Preprocessing((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop_pct=0.9),
        published=published,
        image_multiple=16,
        head=("head.weight", "head_dist.weight")[: 1 + distilled],
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
    _deit("deit_ti", "deit_tiny_patch16_224", (5.7, 1.3)),
    _deit("deit_s", "deit_small_patch16_224", (22.1, 4.6)),
    _deit("deit_b", "deit_base_patch16_224", (86.6, 17.6)),
    _deit("deit_ti_distilled", "deit_tiny_distilled_patch16_224", (5.9, 1.3), distilled=True),
    _deit("deit_s_distilled", "deit_small_distilled_patch16_224", (22.4, 4.6), distilled=True),
    _deit("deit_b_distilled", "deit_base_distilled_patch16_224", (87.3, 17.7), distilled=True),
)
