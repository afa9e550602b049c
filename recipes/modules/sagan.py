"""SAGAN's discriminator, from the paper (Zhang 2019, arXiv:1805.08318): residual blocks, one of self-attention."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

WIDTHS = (64, 128, 256, 512, 1024)
"""Channels behind each block that halves the resolution."""

ATTENTIVE = 128
"""Channels of the map that self-attention is over: 32x32 places of an image of 128 pixels."""


def convolution(inner: int, outer: int, kernel: int, bias: bool = True) -> nn.Module:
    """A convolution whose weight is divided by its largest singular value: a constant at inference."""
    return spectral_norm(nn.Conv2d(inner, outer, kernel, padding=kernel // 2, bias=bias))


class SelfAttention(nn.Module):
    """x + gamma o(softmax(f(x) g(x)^T) h(x)), one head, no scale; (B, C, H, W) -> the same shape.

    Queries and keys have an eighth of the channels, values half; keys and values are every second row and column's
    maximum. Gamma starts at zero in training; here at one, or nothing that runs with random weights would tell whether
    the block is right.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.query, self.key = (convolution(channels, channels // 8, 1, bias=False) for _ in range(2))
        self.value = convolution(channels, channels // 2, 1, bias=False)
        self.out = convolution(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query = self.query(x).flatten(2).mT  # (B, H W, C / 8)
        key = functional.max_pool2d(self.key(x), 2).flatten(2)  # (B, C / 8, H W / 4)
        value = functional.max_pool2d(self.value(x), 2).flatten(2).mT
        mixed = (query @ key).softmax(-1) @ value
        return x + self.gamma * self.out(mixed.mT.unflatten(2, x.shape[2:]))


class Block(nn.Module):
    """ReLU, convolution, ReLU, convolution, beside a 1x1 shortcut; the mean of 2x2 where it halves the resolution.

    The first block of all sees pixels: no ReLU before it, and its shortcut takes the mean first.
    """

    def __init__(self, inner: int, outer: int, halves: bool = True):
        super().__init__()
        self.first = inner == 3
        self.conv1, self.conv2 = convolution(inner, outer, 3), convolution(outer, outer, 3)
        self.shortcut = convolution(inner, outer, 1) if inner != outer else nn.Identity()
        self.mean = nn.AvgPool2d(2) if halves else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        body = self.conv2(functional.relu(self.conv1(x if self.first else functional.relu(x))))
        beside = self.shortcut(self.mean(x)) if self.first else self.mean(self.shortcut(x))
        return self.mean(body) + beside


class Discriminator(nn.Module):
    """How real an image looks as one of each class, (B, 3, H, W) -> (B, classes): psi(h) + embedding(class) . h.

    In training one class is given and its score is asked for; at inference all of them cost one matrix product.
    """

    def __init__(self, classes: int):
        super().__init__()
        parts: list[nn.Module] = []
        for inner, outer in zip((3, *WIDTHS), WIDTHS, strict=False):
            parts.append(Block(inner, outer))
            if outer == ATTENTIVE:
                parts.append(SelfAttention(outer))
        self.body = nn.Sequential(*parts, Block(WIDTHS[-1], WIDTHS[-1], halves=False))
        self.psi = spectral_norm(nn.Linear(WIDTHS[-1], 1))
        self.embedding = spectral_norm(nn.Linear(WIDTHS[-1], classes, bias=False))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        h = functional.relu(self.body(pixels)).sum((2, 3))
        return self.psi(h) + self.embedding(h)
