"""MViT-B 16x4: pooled attention over clips of 16 frames (Fan et al. 2021).

Each attention pools its keys and values by strided 3-D convolutions with a LayerNorm, three blocks pool their queries
too and half the resolution; the class token stays aside while the others are pooled. Positions are added once, before
the first block, so no attention has a bias, and TensorRT-RTX 1.7 fuses all as they are. Module and weights are
torchvision's ``mvit_v1_b`` (Kinetics-400).
"""

from __future__ import annotations

from functools import partial

from exporter.types import Batch, ModuleSpec, Preprocessing, Recipe, canonical
from recipes._shallow import shallow, shorten

FRAMES = 16


def build(spec: ModuleSpec, frames: int = FRAMES, few: int | None = None):
    """torchvision's module in eval mode, with random weights; ``few`` keeps so many blocks, and their width.

    torchvision makes it for 16 frames only, others get positions of their own.
    """
    from torch import nn
    from torchvision.models.video import mvit, mvit_v1_b

    module = mvit_v1_b(num_classes=spec.classes)
    if frames != FRAMES:
        width, there = module.blocks[0].norm1.normalized_shape[0], module.pos_encoding
        module.pos_encoding = mvit.PositionalEncoding(width, there.spatial_size, frames // 2, rel_pos_embed=False)
    if few:
        width = shorten(module, "blocks", few).blocks[-1].mlp[3].out_features
        module.norm, module.head[1] = nn.LayerNorm(width, 1e-6), nn.Linear(width, spec.classes)
    return module.eval()


@shallow(depth=2, few=2, frames=4)
def _mvit(*, depth: int, frames: int = FRAMES, few: int | None = None) -> Recipe:
    return Recipe(
        name="mvit_b",
        family="mvit",
        paper="Fan et al. 2021, arXiv:2104.11227",
        build=partial(build, frames=frames, few=few),
        preprocessing=Preprocessing((224, 224), (0.45,) * 3, (0.225,) * 3, "bilinear", crop_pct=0.875, frames=frames),
        batch=Batch(1, 2, 4),
        published=(36.6, 70.5),
        url="https://download.pytorch.org/models/mvit_v1_b-dbeb1030.pth",
        classes=400,
        head=("head.1.weight",),
        image_multiple=32,
        fixed_image=True,
        attention_blocks=depth,
        fused_attention={"fp16": depth, "bf16": depth},
        rewrites=canonical(),
    )


RECIPES = (_mvit(depth=16),)
