"""How a graph's tensor lies beside the output of a torch module: the same numbers in another shape and order of rows.

A rewritten graph keeps tokens in window order, as matrices of one row a token; another exporter may put channels
last. The values say how: two tensors are aligned by looking, for every row (the channels of one token or pixel), for
its nearest row in the other. Nothing is assumed of the graph that the tensor is from. A graph that computes no rows
that nobody reads may hold a token or two of each image: those are looked for among the module's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

PROJECTIONS = 8
NEAREST = 8

STEADY = 4e-3
"""Share of its mean up to which a channel's deviation may be rounding: BF16's."""

FEW = 2
"""Tokens of an image up to which a tensor may be a part of a module's output: a class and a distillation token."""

TELLING = 8
"""Channels from which on a row's numbers are its own: two numbers are near some others by chance."""


@dataclass(frozen=True)
class Alignment:
    """``apply`` brings a graph's tensor into the shape and order of the module's output.

    ``shape`` and ``axis`` are the module's output's shape and its channel axis; ``there`` the graph's tensor's channel
    axis; ``rows[i]`` is the graph's row that is the module's row ``i``, None where they are in the same order.
    ``distance``: :func:`distance` at the sample that it was made from. ``tokens``: the graph has these tokens of each
    image and no others, None where it has all. ``affine``: (factor, summand) that each channel of the graph's tensor,
    its last axis, takes first.
    """

    shape: tuple[int, ...]
    axis: int
    there: int
    rows: np.ndarray | None
    distance: float
    tokens: tuple[int, ...] | None = None
    affine: tuple[np.ndarray, np.ndarray] | None = None

    def apply(self, tensor: np.ndarray, own: np.ndarray | None = None) -> np.ndarray:
        """The graph's ``tensor`` as the module's output; what it lacks is taken from the module's ``own``."""
        if self.affine is not None:
            tensor = tensor * self.affine[0] + self.affine[1]
        if self.tokens is not None:
            made = own.copy()
            _by_token(made)[:, self.tokens] = tensor.reshape(len(own), len(self.tokens), -1)
            return made
        if self.rows is None and self.there == self.axis:
            return tensor.reshape(self.shape)
        found = _as_rows(tensor, self.there)
        if self.rows is not None:
            found = found[self.rows]
        moved = [n for i, n in enumerate(self.shape) if i != self.axis]
        return np.moveaxis(found.reshape(*moved, self.shape[self.axis]), -1, self.axis)

    def seen(self, values: np.ndarray) -> np.ndarray:
        """What the graph has of a module's output."""
        return values if self.tokens is None else _by_token(values)[:, self.tokens]


def _by_token(values: np.ndarray) -> np.ndarray:
    """(B, tokens, channels), a view."""
    return values.reshape(len(values), -1, values.shape[-1])


def distance(reference: np.ndarray, value: np.ndarray) -> float:
    """Root mean square of the difference as a share of the reference's, over the worst image (axis 0); Inf for NaN."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (reference, value))
    with np.errstate(all="ignore"):
        size = np.sqrt(np.square(a).mean(1))
        size = np.maximum(size, 1e-3 * size.max(initial=0.0))  # an image whose values are all but zero weighs less
        found = np.sqrt(np.square(b - a).mean(1)) / np.where(size > 0, size, 1.0)
    return float(np.nan_to_num(found, nan=np.inf, posinf=np.inf).max())


def align(reference: np.ndarray, tensor: np.ndarray, close: float = 1e-3) -> Alignment | None:
    """The best alignment of a graph's ``tensor`` with a module's output; None where the sizes allow none.

    At a distance of ``close`` no other is looked for: rows that are alike are best left where they are.
    """
    if is_part(reference.shape, tensor.shape):
        return _part(reference, tensor)
    if tensor.size != reference.size or not tensor.ndim or reference.ndim < 2:
        return None
    best: Alignment | None = None
    for found in _alignments(reference, tensor):
        if best is None or found.distance < best.distance:
            best = found
        if best.distance <= close:
            break
    return best


def is_part(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether a tensor of the shape ``other`` may be a few tokens of each image of a module's output."""
    if len(shape) < 3 or len(other) < 2 or shape[-1] != other[-1] or shape[-1] < TELLING:
        return False
    images, tokens = shape[0], int(np.prod(shape[1:-1]))
    few, odd = divmod(int(np.prod(other[:-1])), images)
    return not odd and 0 < few <= FEW and few < tokens


def _part(reference: np.ndarray, tensor: np.ndarray) -> Alignment | None:
    """The tokens of the module's that come nearest to the graph's few; None where two of those are the same one."""
    whole = _by_token(reference).astype(np.float64)
    few = tensor.reshape(len(reference), -1, tensor.shape[-1])
    with np.errstate(all="ignore"):
        weight = _spread(_as_rows(whole, 2))
        far = [np.square((whole - row[:, None]) / weight).sum((0, 2)) for row in few.swapaxes(0, 1)]
        far = [np.nan_to_num(distances, nan=np.inf) for distances in far]
    tokens = tuple(int(np.argmin(f)) for f in far)
    if len(set(tokens)) < len(tokens):
        return None
    last = reference.ndim - 1
    return Alignment(reference.shape, last, tensor.ndim - 1, None, distance(whole[:, tokens], few), tokens)


def _alignments(reference: np.ndarray, tensor: np.ndarray) -> Iterator[Alignment]:
    """Alignments from the most to the least likely: as it is, tokens and channels exchanged, channels elsewhere, rows
    in another order."""
    shape, axes = reference.shape, _axes(reference)
    if tensor.shape == shape or (tensor.shape[-1] == shape[-1] and axes[0] == reference.ndim - 1):
        yield Alignment(shape, 0, 0, None, distance(reference, tensor.reshape(shape)))
    if tensor.ndim == 3 and tensor.shape == (shape[0], *shape[:0:-1]):
        exchanged = Alignment(shape, 2, 1, None, 0.0)
        yield replace(exchanged, distance=distance(reference, exchanged.apply(tensor)))
    for axis in axes:
        for there in _axes(tensor):
            if tensor.shape[there] == shape[axis]:
                plain = Alignment(shape, axis, there, None, 0.0)
                yield Alignment(shape, axis, there, None, distance(reference, plain.apply(tensor)))
                if shape[axis] < TELLING:
                    continue
                rows = _nearest(_as_rows(reference, axis), _as_rows(tensor, there))
                if rows is not None:
                    moved = Alignment(shape, axis, there, rows, 0.0)
                    yield Alignment(shape, axis, there, rows, distance(reference, moved.apply(tensor)))


def _axes(tensor: np.ndarray) -> tuple[int, ...]:
    """Where channels may be: first after the batch for images (B, C, H, W) and clips, last for anything."""
    return (1, tensor.ndim - 1) if tensor.ndim >= 4 else (tensor.ndim - 1,)


def _as_rows(tensor: np.ndarray, axis: int) -> np.ndarray:
    """(everything else, channels)."""
    return np.moveaxis(tensor, axis, -1).reshape(-1, tensor.shape[axis])


def signatures(tensor: np.ndarray) -> dict[int | tuple, np.ndarray]:
    """By number of channels: every channel's mean and mean square, which no order of the rows changes.

    Those of (B, T, C) also by ("own", C, T), and of its tokens, were they channels, by ("exchanged", T, C).
    """
    found = {}
    with np.errstate(all="ignore"):
        for axis in (1, 2) if tensor.ndim == 3 else _axes(tensor):
            rows = _as_rows(tensor, axis)
            size, made = tensor.shape[axis], np.concatenate([rows.mean(0), np.square(rows).mean(0)])
            if tensor.ndim == 3:
                found["own" if axis == 2 else "exchanged", size, tensor.shape[3 - axis]] = made
            if axis in _axes(tensor):
                found[size] = made
    return found


def likeness(first: dict, second: dict) -> float:
    """How far two tensors' signatures are apart, as a share; Inf where they have no number of channels in common.

    The second one's tokens and channels may be exchanged.
    """
    best = np.inf
    with np.errstate(all="ignore"):
        for channels, a in first.items():
            other = ("exchanged", *channels[1:]) if isinstance(channels, tuple) else channels
            if other not in second or (isinstance(channels, tuple) and channels[0] != "own"):
                continue
            b = second[other]
            best = min(best, float(np.nan_to_num(np.linalg.norm(b - a) / (np.linalg.norm(a) + 1e-30), nan=np.inf)))
    return best


def _nearest(reference: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
    """For each row of ``reference`` another one of ``rows``, the nearest that is left; None for NaN.

    Every channel counts by how much it varies: one of 10^5 in all rows tells none from another.
    """
    from scipy.spatial import cKDTree

    if not (np.isfinite(reference).all() and np.isfinite(rows).all()):
        return None
    mean = np.mean(reference, 0, dtype=np.float64)
    projection = np.random.default_rng(0).standard_normal((reference.shape[1], PROJECTIONS))
    projection /= _spread(reference)[:, None]
    here, there = ((x - mean) @ projection for x in (reference, rows))
    tree = cKDTree(there)
    found = tree.query(here)[1]
    if len(np.unique(found)) == len(found):
        return found
    return _without_repeats(here, tree, found)


def _spread(rows: np.ndarray) -> np.ndarray:
    """How much each channel varies, at least by its rounding; 1 for one of zeros."""
    mean, deviation = (f(rows, 0, dtype=np.float64) for f in (np.mean, np.std))
    deviation = np.maximum(deviation, STEADY * np.abs(mean))
    return np.where(deviation > 0, deviation, 1.0)


def _without_repeats(here: np.ndarray, tree, found: np.ndarray) -> np.ndarray:
    """Rows that are alike (one class token an image) are taken each once, the nearest pairs first."""
    distances, candidates = tree.query(here, k=min(NEAREST, len(here)))
    taken = np.zeros(len(here), bool)
    result = np.full(len(here), -1)
    for row in np.argsort(distances[:, 0], kind="stable"):
        free = next((c for c in candidates[row] if not taken[c]), None)
        if free is not None:
            result[row], taken[free] = free, True
    result[result < 0] = np.flatnonzero(~taken)
    return result
