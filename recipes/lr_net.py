"""LR-Net-50: a ResNet whose spatial convolutions are local relations, the stem's too (Hu 2019).

Nobody keeps the module, it is :mod:`recipes.modules.lr_net`; the authors published no weights. The paper's 4.3 GFLOPs
are its linear layers; the products with the windows' values are another 0.15.

Scores are no product, so there is no attention to rewrite, and TensorRT-RTX 1.7 fuses none of the 17: a ``__myl_``
kernel makes scores and softmax, a product follows. Written as a product of 16 channels, of which two are not zero, a
layer was fused and moved 8 % fewer bytes.
"""

from __future__ import annotations

from functools import partial

from exporter.types import Batch, ModuleSpec, Preprocessing, Recipe, canonical
from recipes._shallow import shallow


def build(spec: ModuleSpec, depths: tuple[int, ...]):
    """LR-Net-50 in eval mode with random weights, for images of multiples of 32 pixels."""
    from recipes.modules.lr_net import LRNet

    return LRNet(spec.classes, depths).eval()


@shallow(depths=(1, 1, 1, 1))
def _lr_net(depths: tuple[int, ...] = (3, 4, 6, 3)) -> Recipe:
    return Recipe(
        name="lr_net_50",
        family="lr_net",
        paper="Hu et al. 2019, arXiv:1904.11491",
        build=partial(build, depths=depths),
        preprocessing=Preprocessing((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop_pct=0.875),
        published=(23.3, 4.3),
        image_multiple=32,
        batch=Batch(1, 4, 16),
        attention_blocks=sum(depths) + 1,
        rewrites=canonical(fold_batch_normalization=2 * sum(depths) + 5),
    )


RECIPES = (_lr_net(),)
