"""In which order a tensor holds its rows: (positions, batch, rest of the tokens), and how to get from one to another.

A stream of tokens is a matrix, one row for each token of each image. LayerNorm, MLP and residuals do not care about
the order of rows, attention does. An :class:`Order` says it: ``tokens`` is a permutation of an image's T tokens;
with ``positions == 1`` the rows are image by image, each in that order; with ``positions == N`` they are N groups of
T / N tokens, each group image by image. The second kind is what a batched attention kernel reads without a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Order:
    tokens: np.ndarray
    positions: int = 1

    def __eq__(self, other) -> bool:
        return (
            isinstance(other, Order) and self.positions == other.positions and np.array_equal(self.tokens, other.tokens)
        )

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.positions, self.tokens.tobytes()))

    @property
    def natural(self) -> bool:
        """Whether the rows are image by image, the tokens as they are numbered."""
        return self.positions == 1 and bool((self.tokens == np.arange(len(self.tokens))).all())

    def rows(self, batch: int) -> np.ndarray:
        """(batch T, 2): the image and the token of each row."""
        count = len(self.tokens)
        tokens = self.tokens.reshape(self.positions, 1, count // self.positions)
        shape = (self.positions, batch, count // self.positions)
        images = np.arange(batch).reshape(1, batch, 1)
        return np.stack([np.broadcast_to(images, shape).reshape(-1), np.broadcast_to(tokens, shape).reshape(-1)], 1)

    def moved(self, sigma: np.ndarray) -> Order:
        """The same rows where token ``i`` is called ``sigma[i]``."""
        return Order(sigma[self.tokens], self.positions)

    def expanded(self, members: np.ndarray) -> Order:
        """The order of the rows that rows in this order are put together from: ``members[i]`` make token ``i``."""
        return Order(members[self.tokens].reshape(-1), self.positions)


def recognised(rows: np.ndarray, batch: int) -> Order | None:
    """The order whose ``rows(batch)`` these are, or None; ``batch`` is at least 2."""
    count = len(rows) // batch
    others = np.flatnonzero(rows[:, 0] != 0)
    group = int(others[0]) if len(others) else len(rows)
    if group == 0 or count % group:
        return None
    positions = count // group
    found = Order(rows.reshape(positions, batch, group, 2)[:, 0, :, 1].reshape(-1), positions)
    complete = np.array_equal(np.sort(found.tokens), np.arange(count))
    return found if complete and np.array_equal(found.rows(batch), rows) else None


def convert(e, matrix, here: Order, there: Order, width: int):
    """``matrix`` (rows, width) from one order to another; ``e`` is an :class:`exporter.emit.Emitter`.

    One Gather along an image's tokens where the permutation is not the identity, one Transpose for each side whose
    batch is not outermost. A free batch is no obstacle: no shape has more than one free axis.
    """
    count = len(here.tokens)
    place = np.empty(count, np.int64)
    place[here.tokens] = np.arange(count)
    index = place[there.tokens]
    stays = bool((index == np.arange(count)).all())
    if here.positions > 1:
        matrix = e.transpose(e.reshape(matrix, here.positions, -1, count // here.positions, width), 1, 0, 2, 3)
    if not stays:
        matrix = e.op("Gather", e.reshape(matrix, -1, count, width), index, axis=1)
    if there.positions > 1:
        matrix = e.transpose(e.reshape(matrix, -1, there.positions, count // there.positions, width), 1, 0, 2, 3)
    return e.reshape(matrix, -1, width)
