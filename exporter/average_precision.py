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

MOST_ANSWERS = 100
"""Answers of an image that count, the surest ones."""

RESAMPLES = 200


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


class Matches:
    """Answers that were matched with truths, image by image: the precision of any choice of the images follows."""

    def __init__(self, evaluation, images: int):
        self._evaluation, self.images = evaluation, images
        self._found = list(evaluation.evalImgs) if evaluation else []

    def precision(self, chosen: np.ndarray | None = None) -> Precision:
        """Of all images, or of ``chosen`` (their number,) indices, which may repeat."""
        if self._evaluation is None:
            return Precision(0.0, 0.0)
        if chosen is not None:
            assert len(chosen) == self.images
            groups = [self._found[i : i + self.images] for i in range(0, len(self._found), self.images)]
            self._evaluation.evalImgs = [group[i] for group in groups for i in chosen]
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            self._evaluation.accumulate()
        self._evaluation.evalImgs = self._found
        made = self._evaluation.eval["precision"]  # (IoU, recall, class, area, answers); -1 where there is no truth
        return Precision(_mean(made), _mean(made[:1]))


def _mean(values: np.ndarray) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else 0.0


def average_precision(answers: Sequence[Boxes], truths: Sequence[Boxes]) -> Precision:
    """The precision over images in the same order, at most 100 answers an image; errors as :func:`match` has them."""
    return match(answers, truths).precision()


def match(answers: Sequence[Boxes], truths: Sequence[Boxes]) -> Matches:
    """Every image's answers with its truth.

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
    return Matches(_evaluated(annotations, found, len(truths)) if found else None, len(truths))


def drop_interval(before: Matches, after: Matches, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, list[float]]:
    """95 % intervals of ``ap`` and ``ap50`` lost from ``before`` to ``after``, in points: a paired bootstrap.

    Images are drawn with replacement, the same for both (Efron and Tibshirani 1993, percentile interval).
    """
    rng = np.random.default_rng(seed)
    drops = []
    for _ in range(resamples):
        chosen = rng.integers(before.images, size=before.images)
        first, second = before.precision(chosen), after.precision(chosen)
        drops.append((first.ap - second.ap, first.ap50 - second.ap50))
    ends = 100 * np.quantile(np.array(drops), (0.025, 0.975), axis=0)
    return {"ap": ends[:, 0].tolist(), "ap50": ends[:, 1].tolist()}


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


def _evaluated(annotations: list[dict], found: list[dict], images: int):
    """pycocotools' evaluation after its matching, of objects of any size."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(images)],
        "categories": [{"id": c} for c in sorted({a["category_id"] for a in annotations + found})],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [MOST_ANSWERS]
        evaluation.evaluate()
    return evaluation
