"""Which tokens and columns the batch axes of an attention's operands stand for: arithmetic on maps, no graph.

A group is one matrix of a batched product, that of one window and one head of one image; ``groups`` (G, 2) says which
window and which head each of an image's G groups is.
"""

from __future__ import annotations

import numpy as np

from exporter.errors import Refusal
from exporter.orders import Order, recognised


def taken(places: np.ndarray, order: Order, width: int, batch: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(tokens, columns) of each group of an image: (groups, tokens) and (groups, features)."""
    tokens, features = places.shape[-2:]
    places = places.reshape(-1, tokens, features)
    rows, columns = places[:, :, 0] // width, places[:, 0] % width
    if not np.array_equal(places, (rows * width)[:, :, None] + columns[:, None]):
        raise Refusal(f"{name} is not taken apart by rows and columns")
    if len(rows) % batch:
        raise Refusal(f"the images of a batch are not apart in {name}")
    names = order.rows(batch)[rows].reshape(batch, -1, tokens, 2)
    columns = columns.reshape(batch, -1, features)
    images = np.arange(batch).reshape(-1, 1, 1)
    if (names[..., 0] != images).any() or (names[..., 1] != names[:1, ..., 1]).any() or (columns != columns[:1]).any():
        raise Refusal(f"the images of a batch are not apart in {name}")
    return names[0, ..., 1], columns[0]


def joined(places: np.ndarray, groups: np.ndarray, tokens: int, shape: tuple[int, int], batch: int) -> Order | None:
    """The order of rows in which all heads stand side by side, or None where they do not; ``shape`` is V's columns'."""
    heads, features = shape
    places = places.reshape(-1, heads, features)
    group, inside = np.divmod(places[:, :, 0], tokens * features)
    image, group = np.divmod(group, len(groups))
    names = np.stack([image, groups[group, 0] * tokens + inside // features], -1)
    right = np.array_equal(places, places[:, :, :1] + np.arange(features)) and not (inside % features).any()
    if not right or (groups[group, 1] != np.arange(heads)).any() or (names != names[:, :1]).any():
        return None
    return recognised(names[:, 0], batch)


def numbered(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the number of each vector, the different vectors), numbered as they first appear."""
    _, first, inverse = np.unique(vectors, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return np.argsort(order)[inverse.reshape(-1)], vectors[np.sort(first)]


def by_head(scale: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The scale of each head; it must be one number for a head's whole matrix."""
    found = _groups(scale, groups)
    made = np.empty(groups[:, 1].max() + 1, np.float32)
    made[groups[:, 1]] = found[:, 0, 0]
    if not np.array_equal(found, np.broadcast_to(made[groups[:, 1], None, None], found.shape)):
        raise Refusal("its scores are scaled by more than one number a head")
    return made


def by_window(bias: np.ndarray | None, groups: np.ndarray, tokens: int, keys: int) -> np.ndarray | None:
    """The bias as (windows or 1, heads or 1, queries, keys); None where it adds nothing."""
    if bias is None or not bias.any():
        return None
    if bias.shape[-2:] != (tokens, keys):
        raise Refusal("its bias is not one number a query and key")
    windows, heads = groups.max(0) + 1
    made = np.empty((windows, heads, tokens, keys), np.float32)
    made[groups[:, 0], groups[:, 1]] = _groups(bias, groups)
    made = made[:1] if (made == made[:1]).all() else made
    return made[:, :1] if (made == made[:, :1]).all() else made


def _groups(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Values of two images by group, which must be the same in both."""
    if values.size != 2 * len(groups) * values.shape[-2] * values.shape[-1]:
        raise Refusal("its softmax is over more scores than its product has")
    both = values.reshape(2, len(groups), *values.shape[-2:])
    if not np.array_equal(both[0], both[1]):
        raise Refusal("its bias is not the same for every image")
    return both[0]
