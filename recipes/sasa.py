"""Stand-alone self-attention ResNet-50: attention over 7x7 places instead of every convolution (Ramachandran 2019).

Nobody keeps the module, it is :mod:`recipes.modules.sasa`; the authors published no weights. The paper's 7.2 BFLOPs
count a multiply and an add apart.

The distances' term depends on the image, so the rewrites leave these attentions as they are; TensorRT-RTX 1.7 fuses 13
of the 16 (``_gemm_mha_v2``, the term as its bias). Those of the first stage, with 8 channels a head, are two products
and a ``__myl_`` softmax.
"""

from __future__ import annotations

from functools import partial

from exporter.types import Batch, ModuleSpec, Preprocessing, Recipe, canonical
from recipes._shallow import shallow


def build(spec: ModuleSpec, depths: tuple[int, ...]):
    """The network in eval mode with random weights, for images of multiples of 32 pixels."""
    from recipes.modules.sasa import SASA

    return SASA(spec.classes, depths).eval()


@shallow(depths=(1, 1, 1, 1))
def _sasa(depths: tuple[int, ...] = (3, 4, 6, 3)) -> Recipe:
    return Recipe(
        name="sasa_r50",
        family="sasa",
        paper="Ramachandran et al. 2019, arXiv:1906.05909",
        build=partial(build, depths=depths),
        preprocessing=Preprocessing((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop_pct=0.875),
        published=(18.0, 3.6),
        image_multiple=32,
        batch=Batch(1, 4, 16),
        attention_blocks=sum(depths),
        fused_attention={"fp16": sum(depths[1:]), "bf16": sum(depths[1:])},
        rewrites=canonical(fold_batch_normalization=2 * sum(depths) + 5),
    )


RECIPES = (_sasa(),)
