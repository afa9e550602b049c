"""gMLP: no attention, a gating unit multiplies half of the channels with a projection over the tokens (Liu 2021).

The number of tokens is a weight's shape, so a model takes one image size only. Module and weights are timm's.
"""

from __future__ import annotations

from functools import partial

from exporter.types import Preprocessing, Recipe, canonical
from recipes._shallow import shallow
from recipes._timm import adapt, build


@shallow(few=2)
def _gmlp(few: int | None = None) -> Recipe:
    return Recipe(
        name="gmlp_s",
        family="gmlp",
        paper="Liu et al. 2021, arXiv:2105.08050",
        build=partial(build, name="gmlp_s16_224", few=few),
        adapt=adapt,
        hub="timm/gmlp_s16_224.ra3_in1k",
        preprocessing=Preprocessing((224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), crop_pct=0.875),
        published=(19.4, 4.4),
        image_multiple=16,
        fixed_image=True,
        attention_blocks=0,
        rewrites=canonical(static_shapes=1, patch_embedding=1, token_mixing=few or 30),
    )


RECIPES = (_gmlp(),)
