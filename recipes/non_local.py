"""Non-local ResNet-50: five blocks of attention over all places inside a convolutional network (Wang 2018).

The image version, 224x224. The paper counts videos only, so ``published`` is arithmetic: a block of C channels adds
2 C^2 weights to ResNet-50's 25.6 M, two of 512 and three of 1024 channels 7.3 M. Nobody keeps the module, it is
:mod:`recipes.modules.non_local`, timm's ResNet-50 with the blocks in their places.

Queries, keys and values are convolutions and a head is 256 or 512 wide: the rewrites leave these attentions as they
are, and TensorRT-RTX 1.7 fuses none of the five.
"""

from __future__ import annotations

from exporter.types import ModuleSpec, Preprocessing, Recipe, canonical


def build(spec: ModuleSpec):
    """The network in eval mode with random weights, for images of multiples of 32 pixels."""
    from recipes.modules.non_local import non_local_resnet50

    return non_local_resnet50(spec.classes).eval()


RECIPES = (
    Recipe(
        name="non_local_r50",
        family="non_local",
        paper="Wang et al. 2018, arXiv:1711.07971",
        build=build,
        preprocessing=Preprocessing((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop_pct=0.875),
        published=(32.9, 5.6),
        image_multiple=32,
        head=("fc.weight",),
        attention_blocks=5,
        rewrites=canonical(fold_batch_normalization=58),
    ),
)
