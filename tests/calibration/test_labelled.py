from dataclasses import replace

import models
import numpy as np
import pytest
from PIL import Image

from calibration import labelled
from exporter.errors import UsageError

RECIPE = replace(models.VIT, held_out=None)


@pytest.fixture()
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(30):
        path = tmp_path / f"n{i % 3}" / "deep" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(path)
    return tmp_path


def test_the_folders_are_the_classes_in_sorted_order(folder):
    rows = list(labelled.source(folder, RECIPE, 3).rows(lambda name, why: None))
    assert len(rows) == 30 and all(name.startswith(f"n{label}/") for name, _, label in rows)
    assert rows[0][1].shape == RECIPE.inputs[0].shape


def test_another_number_of_classes_is_refused_with_both_numbers(folder):
    with pytest.raises(UsageError) as caught:
        labelled.source(folder, RECIPE, 10)
    assert "3 folders" in caught.value.found and "10 folders" in caught.value.expected


def test_images_beside_the_folders_are_refused(folder):
    (folder / "n0" / "deep" / "00.png").rename(folder / "loose.png")
    with pytest.raises(UsageError) as caught:
        labelled.source(folder, RECIPE, 3)
    assert "1 images beside them" in caught.value.found


def test_corrupt_files_are_named_and_too_many_are_an_error(folder):
    files = sorted(folder.rglob("*.png"))
    files[4].write_bytes(b"x")
    said = {}
    assert len(list(labelled.source(folder, RECIPE, 3).rows(said.setdefault))) == 29 and list(said) == [str(files[4])]
    files[5].write_bytes(b"x")
    with pytest.raises(UsageError, match="too many files"):
        list(labelled.source(folder, RECIPE, 3).rows(lambda name, why: None))


def test_no_labels_at_all_is_an_error():
    with pytest.raises(UsageError, match="no labelled images"):
        labelled.source(None, RECIPE, 10)
