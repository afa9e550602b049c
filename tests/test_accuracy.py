import json

import numpy as np
import pytest
from models import DETR
from PIL import Image

from exporter import accuracy, cli, registry
from exporter.errors import UsageError
from exporter.progress import Progress
from exporter.types import Batch, Request


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("out")


def asked(out, recipe, precision="int8", **fields):
    fields = {"batch": recipe.batch, "targets": ("sm80",), "backend": "tensorrt-rtx", "weights": "auto",
              "io": "fp32"} | fields  # fmt: skip
    return Request(recipe=recipe, precision=registry.precision(precision), out=out, **fields)


@pytest.mark.parametrize("name", ["vit_digits", "mixer_digits"])
def test_int8_keeps_the_accuracy_of_the_trained_models(name, out):
    report = accuracy.accuracy(asked(out, registry.recipe(name)), Progress(quiet=True))
    rows = report["rows"]
    assert report["images"] == 450 and report["weights"]["kind"] == "pretrained"
    assert rows["torch"]["top1"] >= 0.97
    assert abs(rows["rewritten"]["drop"]) < 0.25 and rows["typed"]["drop"] <= 0.5
    low, high = rows["typed"]["top1_interval"]
    assert low < rows["typed"]["top1"] < high
    assert len(rows["typed"]["changed_images"]) == rows["typed"]["changed"]
    assert rows["engine"]["status"] == "not run" and rows["engine"]["why"]


def test_a_static_batch_gives_the_same_accuracy(out):
    recipe = registry.recipe("vit_digits")
    free = accuracy.accuracy(asked(out, recipe, "fp16"), Progress(quiet=True))["rows"]["typed"]
    fixed = accuracy.accuracy(asked(out, recipe, "fp16", batch=Batch(7, 7, 7)), Progress(quiet=True))["rows"]["typed"]
    assert abs(free["top1"] - fixed["top1"]) <= 1 / 450


def test_a_folder_of_images_through_the_command_line(out, tmp_path, capsys):
    recipe = registry.recipe("vit_digits")
    counted = {}
    for row, label in recipe.held_out(recipe):
        if counted.setdefault(label, 0) < 3:
            levels = ((row.transpose(1, 2, 0) * 0.5 + 0.5) * 255).round().clip(0, 255).astype(np.uint8)
            path = tmp_path / str(label) / f"{counted[label]}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(levels).save(path)
            counted[label] += 1
    words = ["accuracy", "vit_digits", "--precision", "fp16", "--target", "sm80", "--out", str(out), "--quiet"]
    assert cli.main([*words, "--data", str(tmp_path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["images"] == 30 and report["rows"]["typed"]["top1"] > 0.9
    assert cli.main([*words, "--data", str(tmp_path)]) == 0
    assert "top-1 %" in capsys.readouterr().out
    (tmp_path / "9" / "0.png").unlink()
    for path in (tmp_path / "9").iterdir():
        path.unlink()
    assert cli.main([*words, "--data", str(tmp_path)]) == 2
    assert "9 folders" in capsys.readouterr().err


def test_a_drop_that_is_too_large_fails(out, capsys):
    words = ["accuracy", "vit_digits", "--precision", "int8", "--target", "sm80", "--out", str(out), "--quiet"]
    assert cli.main([*words, "--fail-above", "-100"]) == 1
    assert "loses too much accuracy" in capsys.readouterr().err


def test_a_detector_needs_a_folder_with_objects(out):
    with pytest.raises(UsageError, match="no labelled images"):
        accuracy.accuracy(asked(out, DETR), Progress(quiet=True))


def test_the_interval_of_a_paired_drop():
    low, high = accuracy.paired(10, 4, 1000)
    assert low < 0.006 < high and high - low == pytest.approx(2 * 1.96 * np.sqrt(14 - 0.036) / 1000)
    assert accuracy.paired(0, 0, 50) == (0.0, 0.0)
