"""MLP-Mixer: no attention, tokens are mixed by an MLP over the transposed patches (Tolstikhin 2021).

The number of tokens is a weight's shape, so a model takes one image size only. Modules and weights are timm's
``mixer_*``; nobody published ImageNet weights for S/16.
The patch embedding stays a convolution: as a product it is a kernel more, by the compiler's own log.
"""

from __future__ import annotations

from functools import partial

from exporter.types import Preprocessing, Recipe, TensorSpec, canonical
from recipes._shallow import shallow
from recipes._timm import adapt, build

PAPER = "Tolstikhin et al. 2021, arXiv:2105.01601"


@shallow(few=2)
def _mixer(
    name: str, arch: str, tag: str | None, depth: int, published: tuple[float, float], few: int | None = None
) -> Recipe:
    return Recipe(
        name=name,
        family="mixer",
        paper=PAPER,
        build=partial(build, name=arch, few=few),
        adapt=adapt,
        hub=f"timm/{arch}.{tag}" if tag else None,
        preprocessing=Preprocessing((224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), crop_pct=0.875),
        outputs=(TensorSpec("logits", "class scores before the softmax"),),
        published=published,
        image_multiple=16,
        fixed_image=True,
        attention_blocks=0,
        rewrites=canonical(static_shapes=1, token_mixing=few or depth, skip=("patch_embedding",)),
    )


RECIPES = (
    _mixer("mixer_s", "mixer_s16_224", None, 8, (18.5, 3.8)),
    _mixer("mixer_b", "mixer_b16_224", "goog_in21k_ft_in1k", 12, (59.9, 12.6)),
    _mixer("mixer_l", "mixer_l16_224", "goog_in21k_ft_in1k", 24, (208.2, 44.6)),
)
