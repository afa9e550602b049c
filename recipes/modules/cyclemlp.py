"""CycleMLP's module, from the paper (Chen 2022, arXiv:2107.10224), with the names of its authors' checkpoints."""

from __future__ import annotations

import torch
from torch import nn

WIDTHS = (64, 128, 320, 512)
EXPANSION = 4
STEP = 3
"""Places that a CycleFC goes round: channel c reads its place's neighbour at distance -1, 0 or 1."""


class CycleFC(nn.Module):
    """A linear layer whose input channels come from neighbouring places in turn; (B, H, W, C) -> the same shape.

    Channel c comes from distance (c + 1) mod 3 - 1 along ``axis`` (1: rows, 2: columns); beyond the border are zeros.
    The channels of one distance are one strided slice; the weight's columns follow them, at no cost once exported.
    """

    def __init__(self, width: int, axis: int):
        super().__init__()
        plain = nn.Conv2d(width, width, 1)
        self.weight, self.bias, self.axis = plain.weight, plain.bias, axis

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        edge = torch.zeros_like(x.narrow(self.axis, 0, 1))
        padded, length = torch.cat((edge, x, edge), self.axis), x.shape[self.axis]
        parts, columns = [], []
        for distance in range(STEP):
            first = (distance - STEP // 2) % STEP  # the first channel whose (c + 1) mod 3 is this distance
            parts.append(padded.narrow(self.axis, distance, length)[..., first::STEP])
            columns.append(self.weight[:, first::STEP, 0, 0])
        return nn.functional.linear(torch.cat(parts, -1), torch.cat(columns, 1), self.bias)


class MLP(nn.Module):
    """Linear, GELU, linear; (..., inner) -> (..., outer)."""

    def __init__(self, width: int, hidden: int, outer: int):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, outer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Mixer(nn.Module):
    """Rows, columns and the place itself, weighed channel by channel; (B, H, W, C) -> the same shape.

    The three weights of a channel are a softmax over what an MLP makes of the average over all places.
    """

    def __init__(self, width: int):
        super().__init__()
        self.mlp_c = nn.Linear(width, width, bias=False)
        self.sfc_h, self.sfc_w = CycleFC(width, axis=2), CycleFC(width, axis=1)
        self.reweight = MLP(width, width // 4, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, w, c = self.sfc_h(x), self.sfc_w(x), self.mlp_c(x)
        weights = self.reweight((h + w + c).mean((1, 2))).unflatten(1, (-1, 3)).softmax(-1)  # (B, C, 3)
        of_h, of_w, of_c = weights[:, None, None].unbind(-1)
        return self.proj(h * of_h + w * of_w + c * of_c)


class Block(nn.Module):
    """(B, H, W, C) -> the same shape."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), Mixer(width)
        self.norm2, self.mlp = nn.LayerNorm(width), MLP(width, EXPANSION * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Convolution(nn.Module):
    """What makes patches and halves the resolution: one convolution over (B, H, W, C)."""

    def __init__(self, inner: int, outer: int, kernel: int, stride: int, padding: int):
        super().__init__()
        self.proj = nn.Conv2d(inner, outer, kernel, stride, padding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class CycleMLP(nn.Module):
    """Four stages of ``depths`` blocks, at a quarter to a 32nd of the resolution; (B, 3, H, W) -> (B, classes)."""

    def __init__(self, classes: int, depths: tuple[int, int, int, int]):
        super().__init__()
        self.patch_embed = Convolution(3, WIDTHS[0], 7, 4, 2)
        parts: list[nn.Module] = []
        for stage, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True)):
            if stage:
                parts.append(Convolution(WIDTHS[stage - 1], width, 3, 2, 1))
            parts.append(nn.Sequential(*(Block(width) for _ in range(depth))))
        self.network = nn.ModuleList(parts)
        self.norm = nn.LayerNorm(WIDTHS[-1])
        self.head = nn.Linear(WIDTHS[-1], classes)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(pixels.permute(0, 2, 3, 1))
        for part in self.network:
            x = part(x)
        return self.head(self.norm(x).mean((1, 2)))
