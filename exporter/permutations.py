"""A permutation of an image's tokens as the fewest movements of a grid: a shift and one exchange of axes, or two.

Window partition, its reverse, cyclic shifts and patch merging are all permutations; a Gather takes any of them. Written
as Reshape, Slice, Concat and Transpose they say to a compiler what a list of indices does not: that whole rows move.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Exchange:
    """Tokens seen as a grid of ``shape``, its axes exchanged: ``new = old.reshape(shape).transpose(axes)``."""

    shape: tuple[int, ...]
    axes: tuple[int, ...]

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        return tokens.reshape(self.shape).transpose(self.axes).reshape(-1)

    @property
    def trivial(self) -> bool:
        return self.axes == tuple(range(len(self.axes)))


@dataclass(frozen=True)
class Roll:
    """Tokens seen as a grid of rows and columns that begins at another row and column, ``start``, and wraps around."""

    shape: tuple[int, int]
    start: tuple[int, int]

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        return np.roll(tokens.reshape(self.shape), [-s for s in self.start], (0, 1)).reshape(-1)


Movement = Exchange | Roll


def factored(index: np.ndarray) -> list[Movement] | None:
    """Movements that together take token ``index[i]`` to place ``i``; None where two exchanges and a shift do not.

    Tried in this order: one exchange; a shift and an exchange; windows put back into rows, a shift, an exchange.
    """
    count = len(index)
    found = exchanged(index)
    if found is not None:
        return [found]
    for rows, columns in _grids(count):
        for height, width in _windows(rows, columns):
            first = []
            if (height, width) != (1, 1):
                first = [Exchange((rows // height, columns // width, height, width), (0, 2, 1, 3))]
            at = _places(first[0])[index] if first else index
            start = divmod(int(at[0]), columns)
            straight = (at // columns - start[0]) % rows * columns + (at % columns - start[1]) % columns
            last = exchanged(straight)
            if last is not None:
                roll = [Roll((rows, columns), start)] if start != (0, 0) else []
                return [*first, *roll, *([] if last.trivial else [last])]
    return None


def exchanged(index: np.ndarray) -> Exchange | None:
    """The exchange of axes that ``index`` is, or None: its places are a grid walked in another order of axes."""
    loops: list[tuple[int, int]] = []
    left = index
    while len(left) > 1:
        step = int(left[1] - left[0])
        straight = np.flatnonzero(np.diff(left) != step)
        run = int(straight[0]) + 1 if len(straight) else len(left)
        if step <= 0 or len(left) % run:
            return None
        grid = left.reshape(-1, run)
        if not (grid - grid[:, :1] == step * np.arange(run)).all():
            return None
        loops.insert(0, (step, run))
        left = grid[:, 0]
    outermost = sorted(range(len(loops)), key=lambda i: -loops[i][0])
    shape = tuple(loops[i][1] for i in outermost) or (1,)
    found = Exchange(shape, tuple(outermost.index(i) for i in range(len(loops))) or (0,))
    return found if np.array_equal(found(np.arange(len(index))), index) else None


def _places(exchange: Exchange) -> np.ndarray:
    """Where each token goes: the exchange's inverse as a list."""
    moved = exchange(np.arange(np.prod(exchange.shape)))
    places = np.empty_like(moved)
    places[moved] = np.arange(len(moved))
    return places


def _grids(count: int) -> Iterator[tuple[int, int]]:
    """Grids of so many tokens, the squarest first."""
    rows = [r for r in range(1, count // 2 + 1) if count % r == 0]
    yield from sorted(((r, count // r) for r in rows), key=lambda g: abs(g[0] - g[1]))


def _windows(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """No window, then square ones that tile the grid, then all others."""
    yield 1, 1
    tiling = [(h, w) for h in range(1, rows + 1) for w in range(1, columns + 1) if not (rows % h or columns % w)]
    yield from sorted((t for t in tiling if t not in ((1, 1), (rows, columns))), key=lambda t: t[0] != t[1])
