"""What ResNets of the papers share that put another layer in the place of a spatial convolution (He 2016)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional


def pointwise(inner: int, outer: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    """A linear layer of each place, or of every ``stride``-th, and its batch normalisation."""
    return nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)


def stages(widths: Sequence[tuple[int, int]], depths: Sequence[int]) -> list[tuple[int, int, int]]:
    """The stages of a :class:`Network` whose blocks have these widths inside and outside."""
    return [(inside, outside, depth) for (inside, outside), depth in zip(widths, depths, strict=True)]


class Bottleneck(nn.Module):
    """A residual block around ``middle``, which has the stride; (B, inner, H, W) -> (B, outer, H / s, W / s)."""

    def __init__(self, inner: int, width: int, outer: int, stride: int, middle: Sequence[nn.Module]):
        super().__init__()
        self.body = nn.Sequential(
            *pointwise(inner, width),
            nn.ReLU(),
            *middle,
            nn.BatchNorm2d(width),
            nn.ReLU(),
            *pointwise(width, outer),
        )
        self.shortcut = nn.Sequential(*pointwise(inner, outer, stride)) if inner != outer else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.shortcut(x) + self.body(x))


class Network(nn.Module):
    """``stem``, stages of blocks, average, head; (B, 3, H, W) -> (B, classes).

    ``stages`` are (width inside a block, width outside, blocks); ``middle(width, stride)`` makes what a block is
    around, the stride is 2 in the first block of every stage but the first.
    """

    def __init__(
        self,
        classes: int,
        stem: nn.Module,
        inner: int,
        stages: Sequence[tuple[int, int, int]],
        middle: Callable[[int, int], Sequence[nn.Module]],
    ):
        super().__init__()
        self.stem = stem
        blocks: list[nn.Module] = []
        for stage, (width, outer, depth) in enumerate(stages):
            for index in range(depth):
                stride = 2 if stage and not index else 1
                blocks.append(Bottleneck(inner, width, outer, stride, middle(width, stride)))
                inner = outer
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inner, classes)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(pixels)).mean((2, 3)))
