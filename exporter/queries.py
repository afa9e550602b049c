"""A detector's queries as a set: two runs that answer the same boxes in another order answer the same.

A two-stage detector (RT-DETR, Zhao et al. 2023, arXiv:2304.08069) takes the encoder's tokens with the highest scores
for its queries. Two scores may differ by less than FP32's rounding, and then two correct runtimes number the queries
differently, whatever they are worth to the user.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def ordered(reference: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """``values`` (images, queries, ...) with each image's queries in the order that comes nearest to ``reference``.

    The assignment of least cost, unless the largest cost is no less than in the order that they have; a pair costs its
    largest difference, each output as a share of its largest value.
    Where anything is NaN or infinite, or an output is no row for each query, nothing is moved.
    """
    from scipy.optimize import linear_sum_assignment

    everything = [*reference.values(), *values.values()]
    if len({a.shape[:2] for a in everything}) != 1 or not all(a.ndim > 2 and np.isfinite(a).all() for a in everything):
        return dict(values)
    here, there = (_rows(batch, reference) for batch in (reference, values))
    moved = {name: value.copy() for name, value in values.items()}
    for image, (a, b) in enumerate(zip(here, there, strict=True)):
        costs = np.abs(a[:, None] - b[None]).max(-1)
        order = linear_sum_assignment(costs)[1]
        if costs[np.arange(len(order)), order].max() >= costs.diagonal().max():
            continue  # they are as near in the order that they have
        for name, value in values.items():
            moved[name][image] = value[image][order]
    return moved


def _rows(batch: Mapping[str, np.ndarray], scale: Mapping[str, np.ndarray]) -> np.ndarray:
    """(images, queries, numbers): all outputs side by side."""
    parts = [batch[name] / max(np.abs(scale[name]).max(), 1e-30) for name in scale]
    return np.concatenate([part.reshape(*part.shape[:2], -1) for part in parts], -1)
