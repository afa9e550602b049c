"""What the families that come from timm share: making a module, reading its checkpoints."""

from __future__ import annotations

import sys

from exporter.types import ModuleSpec
from recipes._shallow import shorten


def build(spec: ModuleSpec, name: str, few: int | None = None, chain: str = "blocks", **options):
    """timm's module ``name`` for this image size and number of classes, in eval mode, with random weights.

    ``few`` keeps so many blocks of each ``chain``.
    """
    import timm

    module = timm.create_model(name, pretrained=False, img_size=spec.image, num_classes=spec.classes, **options).eval()
    return shorten(module, chain, few) if few else module


def adapt(state_dict: dict, module) -> dict:
    """Checkpoints of the paper's authors and of older timm: keys renamed, positions and bias tables resampled.

    What the model's own file of timm does; nothing where that has no filter.
    """
    own = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
    return own(state_dict, module) if own else state_dict
