"""Swin: attention in windows of 7x7 or 12x12 tokens that shift every other block (Liu 2021).

Relative position bias, masks for the shifted windows, patch merging between stages. Modules and weights are
timm's ``swin_*``. Nobody published weights for the small sizes at 384 pixels: there ``hub`` is None.
"""

from __future__ import annotations

from functools import partial

from exporter.types import Preprocessing, Recipe, TensorSpec, canonical
from recipes._shallow import shallow
from recipes._timm import adapt, build

PAPER = "Liu et al. 2021, arXiv:2103.14030"


@shallow(depth=8, few=2)
def _swin(
    name: str,
    arch: str,
    tag: str | None,
    published: tuple[float, float],
    folded: tuple[int, int],
    *,
    depth: int = 24,
    size: int = 224,
    window: int = 7,
    few: int | None = None,
) -> Recipe:
    """``folded`` are the constants that fold away, for each block and besides."""
    return Recipe(
        name=name,
        family="swin",
        paper=PAPER,
        build=partial(build, name=arch, window_size=window, few=few, chain="layers.*.blocks"),
        adapt=adapt,
        hub=f"timm/{arch}.{tag}" if tag else None,
        preprocessing=Preprocessing(
            (size, size), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop_pct=0.9 if size == 224 else 1.0
        ),
        outputs=(TensorSpec("logits", "class scores before the softmax"),),
        published=published,
        image_multiple=32,
        head=("head.fc.weight", "head.weight"),
        rewrites=canonical(
            static_shapes=(9 if window == 7 else 10) * depth - 2,
            fold_constants=folded[0] * depth + folded[1],
            remove_identities=depth + 3,
            patch_embedding=1,
            attention_form=depth,
            fold_attention_biases=2 * depth,
            cancel_permutations=2 * (depth - 2) + 3,  # the last stage is one window; three patch mergings
        ),
        attention_blocks=depth,
        fused_attention={"fp16": depth, "bf16": depth},
        unbiased=depth,
    )


RECIPES = (
    _swin("swin_t", "swin_tiny_patch4_window7_224", "ms_in1k", (28.3, 4.5), (4, -8), depth=12),
    _swin("swin_s", "swin_small_patch4_window7_224", "ms_in22k_ft_in1k", (49.6, 8.7), (4, -8)),
    _swin("swin_b", "swin_base_patch4_window7_224", "ms_in22k_ft_in1k", (87.8, 15.5), (4, -2)),
    _swin("swin_l", "swin_large_patch4_window7_224", "ms_in22k_ft_in1k", (196.5, 34.5), (4, -2)),
    _swin("swin_t_384", "swin_tiny_patch4_window7_224", None, (28.3, 14.0), (9, -2), depth=12, size=384, window=12),
    _swin("swin_s_384", "swin_small_patch4_window7_224", None, (49.7, 26.6), (9, -2), size=384, window=12),
    _swin(
        "swin_b_384",
        "swin_base_patch4_window12_384",
        "ms_in22k_ft_in1k",
        (87.9, 47.2),
        (9, -2),
        size=384,
        window=12,
    ),
    _swin(
        "swin_l_384",
        "swin_large_patch4_window12_384",
        "ms_in22k_ft_in1k",
        (196.7, 104.1),
        (9, -2),
        size=384,
        window=12,
    ),
)
