"""A ResNet of stand-alone self-attention, from the paper (Ramachandran 2019, arXiv:1906.05909): no convolution is left.

What a library would call a convolution of 1x1 here is a linear layer of each place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from recipes import _neighbours as near
from recipes.modules.bottleneck import Network, stages

WINDOW = 7
HEADS = 8
WIDTHS = ((64, 256), (128, 512), (256, 1024), (512, 2048))
"""Channels inside and outside of a block, by stage."""

STEM = 64
STEM_WINDOW = 4
MIXTURES = 4
"""Value transformations of the stem, of which each place of the window has its own mixture."""


class Attention(nn.Module):
    """softmax(q . (k + distance)) v over the window around each place, 8 heads; (B, C, H, W) -> the same shape.

    The first half of a distance's vector is of its rows, the second of its columns, and the heads share them; there is
    no scale. A block's queries times its distances is one product a side, of a table that is constant at inference.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        half = channels // HEADS // 2
        self.of_rows, self.of_columns = (nn.Parameter(torch.randn(WINDOW, half)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = near.sides(x.shape[2:], WINDOW)
        q, k, v = self.qkv(x).chunk(3, 1)
        q = near.queries(q, HEADS, rows, columns)  # (B, blocks, heads, queries, D)
        k, v = (near.keys(part, HEADS, rows, columns) for part in (k, v))
        scores = q @ k.mT + self.distances(q, rows, columns) + self.mask(rows, columns, x.device)
        return near.whole(scores.softmax(-1) @ v, rows, columns)

    def distances(self, q: torch.Tensor, rows: near.Side, columns: near.Side) -> torch.Tensor:
        """(B, blocks, heads, queries, keys): queries times the vectors of distances."""
        of_row, of_column = q.unflatten(3, (rows.queries, columns.queries)).chunk(2, -1)
        by_row = of_row @ self.table(self.of_rows, rows)
        by_column = (of_column.transpose(3, 4) @ self.table(self.of_columns, columns)).transpose(3, 4)
        return (by_row[..., None] + by_column[..., None, :]).flatten(5).flatten(3, 4)

    @staticmethod
    def table(vectors: torch.Tensor, along: near.Side) -> torch.Tensor:
        """(queries, half of D, keys): the vector of each distance in a block, zeros outside of the window."""
        padded = functional.pad(vectors, (0, 0, 0, 1))
        return padded[torch.tensor(along.distances(), device=vectors.device)].mT

    @staticmethod
    def mask(rows: near.Side, columns: near.Side, device) -> torch.Tensor:
        """(queries, keys) of a block: what hides a key outside of its query's window."""
        row, column = (torch.tensor(s.distances(), device=device) == WINDOW for s in (rows, columns))
        outside = row[:, None, :, None] | column[None, :, None, :]
        return outside.flatten(2).flatten(0, 1) * near.HIDDEN


class Stem(nn.Module):
    """Attention over 4x4 pixels whose values know where they are, 8 heads; (B, 3, H, W) -> (B, 64, H, W).

    The value of place p in the window is a mixture of four linear layers, weighed by softmax((row + column) . mixture).
    With three channels in, a score q . k is x A x' with one 3x3 matrix a head, and all values together are one grouped
    linear layer of the window's weighed pixels: neither keys nor values are ever written out, of which a pixel has 16.
    """

    def __init__(self):
        super().__init__()
        self.query, self.key = (nn.Parameter(torch.randn(HEADS, STEM // HEADS, 3) * 3**-0.5) for _ in range(2))
        self.value = nn.Parameter(torch.randn(MIXTURES, STEM, 3) * 3**-0.5)
        self.of_rows, self.of_columns = (nn.Parameter(torch.randn(STEM_WINDOW, STEM)) for _ in range(2))
        self.mixtures = nn.Parameter(torch.randn(MIXTURES, STEM) * STEM**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = STEM_WINDOW**2
        before = (STEM_WINDOW - 1) // 2
        border = (before, STEM_WINDOW - 1 - before) * 2
        copies = torch.eye(3 * places, device=x.device).unflatten(1, (3, STEM_WINDOW, STEM_WINDOW))
        window = functional.conv2d(functional.pad(x, border), copies).unflatten(1, (1, 3, places))
        pairs = (self.key.mT @ self.query).flatten(0, 1)  # (3 heads, 3)
        asked = functional.conv2d(x, pairs[..., None, None]).unflatten(1, (HEADS, 3, 1))
        share = (asked * window).sum(2, keepdim=True).softmax(3)  # (B, heads, 1, places, H, W)
        mixture = ((self.of_rows[:, None] + self.of_columns) @ self.mixtures.T).softmax(-1).flatten(0, 1)
        value = torch.einsum("pm,moc->ocp", mixture, self.value)
        return functional.conv2d((share * window).flatten(1, 3), value.flatten(1)[..., None, None], groups=HEADS)


def attended(width: int, stride: int) -> list[nn.Module]:
    """What a block is around: an attention has no stride, the mean of 2x2 places follows it."""
    return [Attention(width), nn.AvgPool2d(2) if stride == 2 else nn.Identity()]


class SASA(Network):
    """ResNet-50 of attention alone; (B, 3, H, W) -> (B, classes)."""

    def __init__(self, classes: int, depths: Sequence[int]):
        stem = nn.Sequential(Stem(), nn.BatchNorm2d(STEM), nn.ReLU(), nn.MaxPool2d(4))
        super().__init__(classes, stem, STEM, stages(WIDTHS, depths), attended)
