"""S2-MLP's module, from the paper (Yu 2021, arXiv:2106.07477)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

PATCH = 16


def spatial_shift(x: torch.Tensor) -> torch.Tensor:
    """(B, H, W, C) -> the same shape: a quarter of the channels goes down, up, right and left by one patch.

    The row or column that nothing moves into keeps its own values.
    """
    down, up, right, left = x.chunk(4, dim=-1)
    return torch.cat(
        (
            torch.cat((down[:, :1], down[:, :-1]), 1),
            torch.cat((up[:, 1:], up[:, -1:]), 1),
            torch.cat((right[:, :, :1], right[:, :, :-1]), 2),
            torch.cat((left[:, :, 1:], left[:, :, -1:]), 2),
        ),
        -1,
    )


class Block(nn.Module):
    """Mixes patches (FC, GELU, shift, FC), then channels (an MLP four times as wide); (B, H, W, C) -> same shape."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.fc2(spatial_shift(functional.gelu(self.fc1(self.norm1(x)))))
        return x + self.mlp(self.norm2(x))


class S2MLP(nn.Module):
    """``depth`` blocks of ``width`` channels over patches of 16x16; (B, 3, H, W) -> (B, classes)."""

    def __init__(self, classes: int, width: int, depth: int):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, width, PATCH, PATCH)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.head = nn.Linear(width, classes)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(pixels).permute(0, 2, 3, 1)  # (B, H / 16, W / 16, C)
        return self.head(self.blocks(x).mean((1, 2)))
