"""Names of classes, where it is known what a class means: pretrained weights of ImageNet-1k and of COCO.

Random weights mean nothing, and a checkpoint does not say what its classes are; there only the index is shown.
"""

from __future__ import annotations

IMAGENET, COCO = 1000, 91


def of(manifest: dict) -> list[str]:
    """The name of every class, or an empty list where that is not known."""
    weights = manifest["weights"]
    if weights["kind"] != "pretrained":
        return []
    if is_detection(manifest):
        return coco() if weights["classes"] == COCO else []
    return imagenet() if weights["classes"] == IMAGENET else []


def is_detection(manifest: dict) -> bool:
    """Whether the model answers boxes."""
    return {"logits", "boxes"} <= {output["name"] for output in manifest["outputs"]}


def imagenet() -> list[str]:
    """ImageNet-1k's classes, from timm."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return [info.index_to_description(i) for i in range(info.num_classes())]


def coco() -> list[str]:
    """COCO's category numbers 0 to 90, from torchvision; unused numbers are ``N/A``."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    return FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
