"""Non-local blocks inside a ResNet-50, from the paper (Wang 2018, arXiv:1711.07971); the ResNet is timm's."""

from __future__ import annotations

import torch
from torch import nn

PLACES = {"layer2": (1, 3), "layer3": (1, 3, 5)}
"""The residual blocks, counted from 0, that a non-local block follows: every other one of res3 and res4."""


class NonLocal(nn.Module):
    """x + W(softmax(theta(x) phi(x)^T) g(x)): attention over all places, one head; (B, C, H, W) -> the same shape.

    The embedded Gaussian, with no scale on the scores, in half of the channels; phi and g see every second row and
    column's maximum, a quarter of the places. The paper starts W's norm at zero, so that an untrained block is the
    identity; here it starts at one, or nothing that runs with random weights would tell whether the block is right.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = channels // 2
        self.theta, self.phi, self.g = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.pool = nn.MaxPool2d(2)
        self.out = nn.Sequential(nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        small = self.pool(x)
        theta = self.theta(x).flatten(2).mT  # (B, H W, C / 2)
        phi = self.phi(small).flatten(2)  # (B, C / 2, H W / 4)
        g = self.g(small).flatten(2).mT
        mixed = (theta @ phi).softmax(-1) @ g
        return x + self.out(mixed.mT.unflatten(2, x.shape[2:]))


def non_local_resnet50(classes: int) -> nn.Module:
    """timm's ResNet-50 with five non-local blocks; (B, 3, H, W) -> (B, classes)."""
    import timm

    module = timm.create_model("resnet50", pretrained=False, num_classes=classes)
    for name, places in PLACES.items():
        stage = getattr(module, name)
        for place in places:
            stage[place] = nn.Sequential(stage[place], NonLocal(stage[place].conv3.out_channels))
    return module
