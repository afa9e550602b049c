"""COCO's average precision of a detector's answers, by pycocotools.

An image's answers and its truth are corner boxes in pixels; matching, crowd regions and the 101-point interpolation are
those of Lin et al. 2014, arXiv:1405.0312, as the reference evaluation has them.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exporter.errors import UsageError


@dataclass(frozen=True)
class Boxes:
    """N boxes of one image: ``corners`` (N, 4) are left, top, right, bottom in pixels, ``classes`` (N,) are indices.

    ``scores`` (N,) belong to answers, ``crowd`` (N,) to a truth: a region of many objects, which nothing has to match.
    """

    corners: np.ndarray
    classes: np.ndarray
    scores: np.ndarray | None = None
    crowd: np.ndarray | None = None


@dataclass(frozen=True)
class Precision:
    """``ap`` is the mean over IoU 0.50 to 0.95 in steps of 0.05, ``ap50`` that at 0.50; shares, not per cent."""

    ap: float
    ap50: float


def average_precision(answers: Sequence[Boxes], truths: Sequence[Boxes]) -> Precision:
    """The precision over images in the same order, at most 100 answers an image.

    Raises :class:`UsageError` where the two differ in length, an answer has no scores or a score that is not finite, or
    no object that is not a crowd is to be found.
    """
    if len(answers) != len(truths):
        raise UsageError(
            "answers and truths are not of the same images",
            stage="accuracy",
            found=f"answers for {len(answers)} images",
            expected=f"{len(truths)} images",
        )
    for place, answer in enumerate(answers):
        if answer.scores is None or not np.isfinite(answer.scores).all():
            raise UsageError(
                f"the answers for image {place} have no finite scores", stage="accuracy", expected="a score of each box"
            )
    annotations = [_annotation(row, place) for place, truth in enumerate(truths) for row in _rows(truth)]
    if all(a["iscrowd"] for a in annotations):
        raise UsageError("the images show no object to find", stage="accuracy", expected="at least one annotation")
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    found = [_annotation(row, place) for place, answer in enumerate(answers) for row in _rows(answer)]
    if not found:
        return Precision(0.0, 0.0)
    return _evaluated(annotations, found, len(truths))


def _rows(boxes: Boxes):
    """(corners, class, score, crowd) of every box."""
    count = len(boxes.corners)
    scores = np.ones(count) if boxes.scores is None else boxes.scores
    crowd = np.zeros(count, bool) if boxes.crowd is None else boxes.crowd
    return zip(boxes.corners, boxes.classes, scores, crowd, strict=True)


def _annotation(row: tuple, image: int) -> dict:
    (left, top, right, bottom), label, score, crowd = row
    width, height = float(right - left), float(bottom - top)
    return {
        "image_id": image,
        "category_id": int(label),
        "bbox": [float(left), float(top), width, height],
        "area": width * height,
        "iscrowd": int(crowd),
        "score": float(score),
    }


def _evaluated(annotations: list[dict], found: list[dict], images: int) -> Precision:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(images)],
        "categories": [{"id": c} for c in sorted({a["category_id"] for a in annotations + found})],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return Precision(float(evaluation.stats[0]), float(evaluation.stats[1]))
