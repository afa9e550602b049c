"""What modules with attention in a sliding window share: dense blocks of queries with the keys around them.

A window of its own for each place is one small product a place, or a map copied once for each of the window's places.
A block of queries beside each other shares most of its keys: one dense product a block, in which a constant mask hides
what is outside of a query's own window. Beyond the border are zeros, as for a convolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

HIDDEN = -1e4
"""Score of a key outside of the window: no share in FP32, FP16 or BF16."""

LARGEST_SPAN = 8
"""Places that a block of queries spans along each side, at most."""


@dataclass(frozen=True)
class Side:
    """One side of the map: ``blocks`` blocks of ``queries``, ``stride`` places apart, each seeing ``keys`` places."""

    length: int
    blocks: int
    queries: int
    keys: int
    stride: int
    window: int

    def border(self) -> tuple[int, int]:
        """Places of zeros before and after, enough for every block."""
        before = self.window // 2
        return before, self.starts()[-1] + 1 - self.length - before

    def starts(self) -> list[int]:
        """The places of the padded side that the blocks see, block by block."""
        step = self.queries * self.stride
        return [block * step + key for block in range(self.blocks) for key in range(self.keys)]

    def distances(self) -> list[list[int]]:
        """(queries, keys): where in its query's window a key is, ``window`` for outside."""
        places = [[key - query * self.stride for key in range(self.keys)] for query in range(self.queries)]
        return [[place if 0 <= place < self.window else self.window for place in row] for row in places]


def sides(shape: tuple[int, int], window: int, stride: int = 1) -> tuple[Side, Side]:
    """How a map of so many rows and columns is cut: into the largest equal blocks that are not too large.

    The columns that a block sees are a multiple of eight, as kernels of matrix products want their sums.
    """
    made = []
    for length, multiple in zip(shape, (1, 8), strict=True):
        queries = next(n for n in range(LARGEST_SPAN // stride, 0, -1) if length // stride % n == 0)
        keys = -(-((queries - 1) * stride + window) // multiple) * multiple
        made.append(Side(length, length // stride // queries, queries, keys, stride, window))
    return made[0], made[1]


def queries(x: torch.Tensor, heads: int, rows: Side, columns: Side) -> torch.Tensor:
    """(B, C, H, W) -> (B, blocks, heads, places of a block, C / heads)."""
    return _blocks(x, heads, (rows.blocks, rows.queries, columns.blocks, columns.queries))


def keys(x: torch.Tensor, heads: int, rows: Side, columns: Side) -> torch.Tensor:
    """(B, C, H, W) -> (B, blocks, heads, places that a block sees, C / heads)."""
    import torch

    x = torch.nn.functional.pad(x, (*columns.border(), *rows.border()))
    for axis, along in ((2, rows), (3, columns)):
        x = x.index_select(axis, torch.tensor(along.starts(), device=x.device))
    return _blocks(x, heads, (rows.blocks, rows.keys, columns.blocks, columns.keys))


def _blocks(x: torch.Tensor, heads: int, cut: tuple[int, int, int, int]) -> torch.Tensor:
    width = x.shape[1] // heads
    x = x.reshape(-1, heads, width, *cut).permute(0, 3, 5, 1, 4, 6, 2)
    return x.reshape(-1, cut[0] * cut[2], heads, cut[1] * cut[3], width)


def whole(x: torch.Tensor, rows: Side, columns: Side) -> torch.Tensor:
    """What :func:`queries` took apart: (B, blocks, heads, places, D) -> (B, C, H, W)."""
    heads, width = x.shape[2], x.shape[4]
    x = x.reshape(-1, rows.blocks, columns.blocks, heads, rows.queries, columns.queries, width)
    height, across = rows.blocks * rows.queries, columns.blocks * columns.queries
    return x.permute(0, 3, 6, 1, 4, 2, 5).reshape(-1, heads * width, height, across)
