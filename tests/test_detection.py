"""Average precision of a small DETR, on photographs whose truth is what the torch module itself sees."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from models import DETR
from PIL import Image

from calibration import images
from exporter import accuracy, accuracy_report, detection, registry, samples, weights
from exporter.errors import UsageError
from exporter.progress import Progress
from exporter.types import ModuleSpec, Request

RECIPE = replace(DETR, rewrites=DETR.rewrites)
PICTURES = samples.shipped()[:3]


def annotated(folder, shift=0.0, best=4):
    """A COCO folder: the surest boxes that the module sees, moved to the right by a share of their width."""
    module = weights.module(
        RECIPE, weights.locate(RECIPE, "random"), ModuleSpec(RECIPE.preprocessing.size, RECIPE.classes)
    )
    listed, notes = [], []
    for number, path in enumerate(PICTURES, 1):
        shutil.copy(path, folder)
        picture = images.decode(path)
        with torch.no_grad():
            answers = module(torch.from_numpy(images.preprocess(picture, RECIPE.preprocessing))[None])
        names = [o.name for o in RECIPE.outputs]
        found = detection.boxes({n: a[0].numpy() for n, a in zip(names, answers, strict=True)}, picture.size)
        listed.append({"id": number, "file_name": path.name})
        for query in np.argsort(-found.scores)[:best]:
            left, top, right, bottom = found.corners[query]
            box = [left + shift * (right - left), top, right - left, bottom - top]
            notes.append(
                {"image_id": number, "category_id": int(found.classes[query]), "bbox": [float(v) for v in box]}
            )
    (folder / "instances.json").write_text(json.dumps({"images": listed, "annotations": notes}))
    return folder


def asked(out, precision="fp16"):
    return Request(recipe=RECIPE, precision=registry.precision(precision), batch=RECIPE.batch, targets=("sm80",),
                   backend="tensorrt-rtx", weights="random", io="fp32", out=out, native_image=False)  # fmt: skip


def test_the_typed_graph_sees_what_torch_sees(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    report = accuracy.accuracy(asked(tmp_path / "out"), Progress(quiet=True), annotated(tmp_path / "data"))
    rows = report["rows"]
    assert report["images"] == 3 and list(rows) == ["torch", "rewritten", "typed", "engine"]
    assert rows["torch"]["ap"] > 0.5 and rows["torch"]["ap50"] >= rows["torch"]["ap"]
    assert abs(rows["rewritten"]["drop"]) < 1e-6 and abs(rows["typed"]["drop"]) < 20
    assert rows["engine"]["status"] == "not run"
    accuracy_report.show(report)
    assert "AP50 %" in capsys.readouterr().out
    assert accuracy_report.failure(report, 100.0) is None
    assert "points of AP" in str(accuracy_report.failure(report, -100.0))


def test_boxes_that_are_elsewhere_lower_the_precision(tmp_path):
    module = weights.module(
        RECIPE, weights.locate(RECIPE, "random"), ModuleSpec(RECIPE.preprocessing.size, RECIPE.classes)
    )

    def answer(pixels):
        with torch.no_grad():
            found = module(torch.from_numpy(pixels))
        return {o.name: v.numpy() for o, v in zip(RECIPE.outputs, found, strict=True)}

    scores = []
    for shift in (0.0, 0.3, 3.0):
        folder = tmp_path / str(shift)
        folder.mkdir()
        rows, _, _ = detection.measure({"torch": answer}, detection.source(annotated(folder, shift), RECIPE), print)
        scores.append(rows["torch"]["ap"])
    assert scores[0] > scores[1] > scores[2]


def test_corners_are_in_the_pictures_pixels():
    logits = np.array([[0.0, 9.0, 0.0], [0.0, 0.0, 9.0]], np.float32)
    boxes = np.array([[0.5, 0.5, 0.5, 1.0], [0.1, 0.1, 0.1, 0.1]], np.float32)
    found = detection.boxes({"logits": logits, "boxes": boxes}, (200, 100))
    np.testing.assert_allclose(found.corners[0], [50, 0, 150, 100])
    assert found.classes[0] == 1 and found.scores[0] > 0.99 > 0.01 > found.scores[1]


def test_a_folder_that_cannot_be_taken_is_said(tmp_path):
    with pytest.raises(UsageError, match="no labelled images"):
        detection.source(None, RECIPE)
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="one annotation file"):
        detection.source(tmp_path, RECIPE)
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
    for images_, notes, says in (
        ([{"id": 1, "file_name": "b.png"}], [box], "none of the 1 images"),
        ([{"id": 1, "file_name": "a.png"}], [box | {"category_id": 99999}], "category 99999"),
    ):
        (tmp_path / "notes.json").write_text(json.dumps({"images": images_, "annotations": notes}))
        with pytest.raises(UsageError, match="not for these images") as caught:
            detection.source(tmp_path, RECIPE)
        assert says in caught.value.found


def test_pictures_that_cannot_be_read_are_counted(tmp_path):
    annotated(tmp_path)
    (tmp_path / PICTURES[0].name).write_bytes(b"no image")
    scenes = detection.source(tmp_path, RECIPE)
    skipped = {}
    assert len(list(scenes.rows(skipped.__setitem__))) == 2 and list(skipped) == [PICTURES[0].name]
