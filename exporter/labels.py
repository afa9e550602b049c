"""Names of classes, where it is known what a class means.

A recipe may say them; transformers' ``config.json`` does (``id2label``). The libraries' own pretrained weights of
ImageNet-1k and COCO are known by their name. Random weights mean nothing, and a checkpoint does not say what its
classes are; there only the index is shown.
"""

from __future__ import annotations

from typing import Any

from exporter.types import Recipe

IMAGENET, COCO = "imagenet-1k", "coco"
KNOWN = {("classification", 1000): IMAGENET, ("detection", 91): COCO}
LIBRARIES = ("timm", "tv")
"""Sources whose pretrained classifiers of 1000 classes are ImageNet's."""


def said(recipe: Recipe, weights: dict[str, Any]) -> list[str] | str:
    """What a manifest says: the recipe's own names, the name of a set that everybody knows, or [].

    Names that a model's config brings are those of its own weights; a checkpoint beside it may be of other classes.
    """
    source, _, name = recipe.name.partition(":")
    if weights["kind"] == "random" or (weights["kind"] == "checkpoint" and (name or not recipe.labels)):
        return []
    if recipe.labels:
        return list(recipe.labels) if len(recipe.labels) == weights["classes"] else []
    if recipe.origin and not (name and source in LIBRARIES):
        return []
    return KNOWN.get((recipe.task, weights["classes"]), [])


def of(manifest: dict[str, Any]) -> list[str]:
    """The name of every class, each on one line, or an empty list where that is not known."""
    found = manifest.get("labels", [])
    if isinstance(found, str):
        return {IMAGENET: imagenet, COCO: coco}.get(found, list)()
    return [" ".join(str(label).split()) for label in found] if isinstance(found, list) else []


def imagenet() -> list[str]:
    """ImageNet-1k's classes, from timm."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo(IMAGENET)
    return [info.index_to_description(i) for i in range(info.num_classes())]


def coco() -> list[str]:
    """COCO's category numbers 0 to 90, from torchvision; unused numbers are ``N/A``."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    return FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
