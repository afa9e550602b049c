"""ResMLP: affine layers, one linear layer over the patches and one MLP over the channels (Touvron 2021).

The number of tokens is a weight's shape, so a model takes one image size only. Modules and weights are timm's.
The patch embedding stays a convolution: as a product it is a kernel more, by the compiler's own log.
"""

from __future__ import annotations

from functools import partial

from exporter.types import Preprocessing, Recipe, canonical
from recipes._shallow import shallow
from recipes._timm import adapt, build


@shallow(few=2)
def _resmlp(name: str, arch: str, depth: int, published: tuple[float, float], few: int | None = None) -> Recipe:
    return Recipe(
        name=name,
        family="resmlp",
        paper="Touvron et al. 2021, arXiv:2105.03404",
        build=partial(build, name=arch, few=few),
        adapt=adapt,
        hub=f"timm/{arch}.fb_in1k",
        preprocessing=Preprocessing((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop_pct=0.875),
        published=published,
        image_multiple=16,
        fixed_image=True,
        attention_blocks=0,
        rewrites=canonical(static_shapes=1, token_mixing=few or depth, skip=("patch_embedding",)),
    )


RECIPES = (
    _resmlp("resmlp_s12", "resmlp_12_224", 12, (15.4, 3.0)),
    _resmlp("resmlp_s24", "resmlp_24_224", 24, (30.0, 6.0)),
    _resmlp("resmlp_s36", "resmlp_36_224", 36, (44.7, 8.9)),
)
