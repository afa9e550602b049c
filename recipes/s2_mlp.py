"""S2-MLP: MLPs over the channels alone; patches talk by shifting quarters of the channels by one patch (Yu 2021).

No attention. Nobody keeps the module, it is :mod:`recipes.modules.s2_mlp`; the authors published no weights.

The paper prints 71 M parameters and 14.0 GFLOPs for the wide model, 51 M and 10.5 for the deep one. The GFLOPs are this
module's. The parameters cannot be: 36 blocks of 10 x 384^2 weights, without which there are no 10.5 GFLOPs, are 53.1 M,
and 12 of 10 x 768^2 are 70.8 M before embedding, head, norms and biases. ``published`` has the whole count.
"""

from __future__ import annotations

from functools import partial

from exporter.types import ModuleSpec, Preprocessing, Recipe, canonical
from recipes._shallow import shallow


def build(spec: ModuleSpec, width: int, depth: int):
    """S2-MLP in eval mode with random weights, for any image of whole patches of 16x16 pixels."""
    from recipes.modules.s2_mlp import S2MLP

    return S2MLP(spec.classes, width, depth).eval()


@shallow(depth=2)
def _s2_mlp(name: str, width: int, depth: int, published: tuple[float, float]) -> Recipe:
    return Recipe(
        name=name,
        family="s2_mlp",
        paper="Yu et al. 2021, arXiv:2106.07477",
        build=partial(build, width=width, depth=depth),
        preprocessing=Preprocessing((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop_pct=0.875),
        published=published,
        image_multiple=16,
        attention_blocks=0,
        rewrites=canonical(patch_embedding=1),
    )


RECIPES = (
    _s2_mlp("s2_mlp_wide", 768, depth=12, published=(72.2, 14.0)),
    _s2_mlp("s2_mlp_deep", 384, depth=36, published=(53.9, 10.5)),
)
