"""LR-Net, from the paper (Hu 2019, arXiv:1904.11491): a ResNet whose every spatial convolution is a local relation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from recipes import _neighbours as near
from recipes.modules.bottleneck import Network, pointwise, stages

WINDOW = 7
SHARING = 8
"""Channels that are aggregated by the same weights."""

WIDTHS = ((100, 256), (200, 512), (400, 1024), (800, 2048))
"""Channels inside and outside of a block, by stage."""


class LocalRelation(nn.Module):
    """softmax over a window of -(q - k)^2 + a prior of the distance, times values; (B, C, H, W) -> (B, C, H/s, W/s).

    Queries and keys are one number for each group of eight channels, values a linear layer. -(q - k)^2 is k (2q - k)
    but for what a softmax over the keys does not see. The prior is an MLP of the distance: constant at inference.
    """

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.groups, self.stride, self.spare = -(-channels // SHARING), stride, -channels % SHARING
        self.query, self.key = (nn.Conv2d(channels, self.groups, 1, bias=False) for _ in range(2))
        self.value = nn.Conv2d(channels, channels, 1, bias=False)
        self.prior = nn.Sequential(nn.Linear(2, self.groups), nn.ReLU(), nn.Linear(self.groups, self.groups))
        reach = WINDOW // 2
        places = [[row, column] for row in range(-reach, reach + 1) for column in range(-reach, reach + 1)]
        self.register_buffer("places", torch.tensor(places, dtype=torch.float32), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stride = self.stride
        rows, columns = near.sides(x.shape[2:], WINDOW, stride)
        q = near.queries(self.query(x[..., ::stride, ::stride]), self.groups, rows, columns)
        k = near.keys(self.key(x), self.groups, rows, columns).mT
        v = near.keys(functional.pad(self.value(x), (0, 0, 0, 0, 0, self.spare)), self.groups, rows, columns)
        share = (k * (2 * q - k) + self.bias(rows, columns)).softmax(-1)  # (B, blocks, groups, queries, keys)
        return near.whole(share @ v, rows, columns)[:, : x.shape[1]]

    def bias(self, rows: near.Side, columns: near.Side) -> torch.Tensor:
        """(groups, queries, keys) of a block: the prior inside of the window, nothing outside of it."""
        prior = self.prior(self.places).T.unflatten(1, (WINDOW, WINDOW))
        table = functional.pad(prior, (0, 1, 0, 1), value=near.HIDDEN)
        row, column = (torch.tensor(s.distances(), device=prior.device) for s in (rows, columns))
        return table[:, row[:, None, :, None], column[None, :, None, :]].flatten(3, 4).flatten(1, 2)


class LRNet(Network):
    """LR-Net-50; (B, 3, H, W) -> (B, classes)."""

    def __init__(self, classes: int, depths: Sequence[int]):
        stem = nn.Sequential(
            *pointwise(3, 64),
            nn.ReLU(),
            LocalRelation(64, stride=2),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        super().__init__(
            classes, stem, 64, stages(WIDTHS, depths), lambda width, stride: [LocalRelation(width, stride)]
        )
