"""Swin V2: cosine attention with a learned scale a head, norms behind the blocks, a bias from an MLP (Liu 2022).

The continuous position bias is a small network of the relative coordinates: a constant at inference. Modules and
weights are timm's ``swinv2_*`` with windows of 8x8 tokens.
"""

from __future__ import annotations

from functools import partial

from exporter.types import Preprocessing, Recipe, TensorSpec, canonical
from recipes._shallow import shallow
from recipes._timm import adapt, build

PAPER = "Liu et al. 2022, arXiv:2111.09883"


@shallow(depth=8, few=2)
def _swin_v2(
    name: str, arch: str, published: tuple[float, float], *, depth: int = 24, few: int | None = None
) -> Recipe:
    return Recipe(
        name=name,
        family="swin_v2",
        paper=PAPER,
        build=partial(build, name=arch, few=few, chain="layers.*.blocks"),
        adapt=adapt,
        hub=f"timm/{arch}.ms_in1k",
        preprocessing=Preprocessing((256, 256), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop_pct=0.9),
        outputs=(TensorSpec("logits", "class scores before the softmax"),),
        published=published,
        image_multiple=32,
        head=("head.fc.weight", "head.weight"),
        rewrites=canonical(
            remove_expansions=2 * depth,
            patch_embedding=1,
            attention_form=depth,
            fold_attention_biases=2 * depth,
            cancel_permutations=2 * (depth - 2) + 3,  # the last stage is one window; three patch mergings
        ),
        attention_blocks=depth,
        fused_attention={"fp16": depth, "bf16": depth},
    )


RECIPES = (
    _swin_v2("swin_v2_t", "swinv2_tiny_window8_256", (28.3, 6.0), depth=12),
    _swin_v2("swin_v2_s", "swinv2_small_window8_256", (49.7, 11.6)),
    _swin_v2("swin_v2_b", "swinv2_base_window8_256", (87.9, 20.4)),
)
