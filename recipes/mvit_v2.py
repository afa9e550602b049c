"""MViTv2: attention whose keys and values are pooled by convolutions, decomposed relative positions (Li 2022).

The position term is a product of the queries with tables of the row and column distances, so it depends on the image
and is no constant bias: ``join_position_terms`` makes it more columns of queries and keys, and TensorRT-RTX 1.7 fuses
the attention then. The first stage has one head, and of one matrix alone (batch 1) the compiler makes two products and
a softmax (``MatMul``, ``__myl_MaxrSubExpSumDiv``, ``MatMul``), so the contract leaves that stage out. Modules and
weights are timm's ``mvitv2_*``.
"""

from __future__ import annotations

from functools import partial

from exporter.types import Preprocessing, Recipe, canonical
from recipes._shallow import shallow
from recipes._timm import adapt, build


@shallow(depth=4, few=1)
def _mvit(
    name: str, arch: str, published: tuple[float, float], *, depth: int, first: int = 1, few: int | None = None
) -> Recipe:
    fused = depth - (few or first)
    return Recipe(
        name=name,
        family="mvit_v2",
        paper="Li et al. 2022, arXiv:2112.01526",
        build=partial(build, name=arch, few=few, chain="stages.*.blocks"),
        adapt=adapt,
        hub=f"timm/{arch}.fb_in1k",
        preprocessing=Preprocessing((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop_pct=0.9),
        published=published,
        image_multiple=32,
        fixed_image=True,
        head=("head.fc.weight",),
        attention_blocks=depth,
        fused_attention={"fp16": fused, "bf16": fused},
        rewrites=canonical(),
    )


RECIPES = (
    _mvit("mvit_v2_t", "mvitv2_tiny", (24.2, 4.7), depth=10),
    _mvit("mvit_v2_s", "mvitv2_small", (34.9, 7.0), depth=16),
    _mvit("mvit_v2_b", "mvitv2_base", (51.5, 10.2), depth=24, first=2),
)
