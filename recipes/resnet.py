"""ResNet-50: the convolutional network that every plot of vision transformers is compared with (He 2016).

No attention; every batch normalisation folds into its convolution. Module and weights are timm's ``resnet50``.
"""

from __future__ import annotations

from exporter.types import ModuleSpec, Preprocessing, Recipe, canonical
from recipes._timm import adapt


def build(spec: ModuleSpec):
    """timm's ResNet-50 for a number of classes, in eval mode, with random weights; any image size."""
    import timm

    return timm.create_model("resnet50", pretrained=False, num_classes=spec.classes).eval()


RECIPES = (
    Recipe(
        name="resnet50",
        family="resnet",
        paper="He et al. 2016, arXiv:1512.03385",
        build=build,
        adapt=adapt,
        hub="timm/resnet50.a1_in1k",
        preprocessing=Preprocessing((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop_pct=0.95),
        published=(25.6, 4.1),
        image_multiple=32,
        head=("fc.weight",),
        attention_blocks=0,
        rewrites=canonical(fold_batch_normalization=53),
    ),
)
