"""How far two sets of outputs are apart: errors for every model, agreement on what the model is for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from exporter.types import Tolerance

Arrays = Mapping[str, np.ndarray]


def errors(reference: np.ndarray, value: np.ndarray) -> dict[str, float]:
    """Distances between two arrays of equal shape, axis 0 the samples.

    ``max_abs`` and ``mean_abs`` are absolute differences, ``relative_max`` is ``max_abs`` as a share of the
    reference's largest absolute value, ``cosine`` the smallest cosine similarity of a sample to its reference.
    NaN and Inf in either array make them NaN or Inf, which no tolerance accepts.
    """
    a, b = (x.astype(np.float64).reshape(len(x), -1) for x in (reference, value))
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(b - a)
        scale = np.abs(a).max()
        largest = float(difference.max())
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        same = (a == b).all(axis=1)  # a row of zeros is like itself
        cosine = np.where(same, 1.0, (a * b).sum(axis=1) / np.where(norms > 0, norms, 1.0))
    return {
        "max_abs": largest,
        "mean_abs": float(difference.mean()),
        "relative_max": largest / float(scale) if scale > 0 else (0.0 if largest == 0 else float("inf")),
        "cosine": float(cosine.min()),
    }


def within(found: Mapping[str, float], tolerance: Tolerance) -> bool:
    """Whether one output's errors are inside its tolerance; never for NaN."""
    return found["relative_max"] <= tolerance.relative_max and found["cosine"] >= tolerance.cosine


def agreement(task: str, reference: Arrays, value: Arrays) -> dict[str, float]:
    """What the model's user sees of the difference: for ``classification`` or ``detection``; shares are 0..1."""
    return TASKS[task](reference, value)


def interval(share: float, images: int, confidence: float = 0.95) -> tuple[float, float]:
    """The shares that ``share`` of ``images`` different images is compatible with (Clopper and Pearson 1934).

    Eight images that all agree say no more than that at least 63 % do.
    """
    from scipy.stats import binomtest

    found = binomtest(round(share * images), images).proportion_ci(confidence, method="exact")
    return float(found.low), float(found.high)


def classification(reference: Arrays, value: Arrays) -> dict[str, float]:
    """Share of samples with the same best class, and mean overlap of the five best, of the first output."""
    name = next(iter(reference))
    a, b = reference[name], value[name]
    count = min(5, a.shape[-1])
    first, second = (np.argsort(-x, axis=-1, kind="stable")[..., :count] for x in (a, b))
    overlap = [len(set(p) & set(q)) / count for p, q in zip(first, second, strict=True)]
    return {
        "top1_agreement": float((first[..., 0] == second[..., 0]).mean()),
        "top5_agreement": float(np.mean(overlap)),
    }


def detection(reference: Arrays, value: Arrays) -> dict[str, float]:
    """DETR's outputs, ``logits`` (B, Q, C + 1) and ``boxes`` (B, Q, 4) as centre and size: queries are matched one
    to one by the Hungarian algorithm on box and class-probability distance, as in the paper's loss, then compared.

    ``box_iou``: mean intersection over union of matched boxes; ``box_iou_min``: the worst;
    ``top1_agreement``: share of matched queries with the same best class.
    """
    from scipy.optimize import linear_sum_assignment

    ious, classes = [], []
    for i in range(len(reference["boxes"])):
        scores = [softmax(side["logits"][i]) for side in (reference, value)]
        boxes = [side["boxes"][i].astype(np.float64) for side in (reference, value)]
        cost = np.abs(boxes[0][:, None] - boxes[1][None]).sum(-1) + np.abs(scores[0][:, None] - scores[1][None]).sum(-1)
        rows, columns = linear_sum_assignment(np.nan_to_num(cost, nan=1e9, posinf=1e9))
        ious.extend(box_iou(boxes[0][rows], boxes[1][columns]))
        classes.extend(scores[0][rows].argmax(-1) == scores[1][columns].argmax(-1))
    return {
        "top1_agreement": float(np.mean(classes)),
        "box_iou": float(np.mean(ious)),
        "box_iou_min": float(np.min(ious)),
    }


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (N, 4) given as centre x, centre y, width, height, pair by pair."""
    low, high = (np.minimum, np.maximum)
    ends = [(box[:, :2] - box[:, 2:] / 2, box[:, :2] + box[:, 2:] / 2) for box in (a, b)]
    sides = np.clip(low(ends[0][1], ends[1][1]) - high(ends[0][0], ends[1][0]), 0, None)
    common = sides.prod(-1)
    union = a[:, 2:].prod(-1) + b[:, 2:].prod(-1) - common
    return np.where(union > 0, common / np.where(union > 0, union, 1.0), (a == b).all(-1).astype(np.float64))


def softmax(x: np.ndarray) -> np.ndarray:
    """Shares along the last axis, in float64; NaN where there is one among them."""
    with np.errstate(all="ignore"):
        shifted = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
        return shifted / shifted.sum(-1, keepdims=True)


TASKS = {"classification": classification, "detection": detection}
