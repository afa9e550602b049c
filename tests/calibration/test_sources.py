from dataclasses import replace

import models
import numpy as np
import pytest
from PIL import Image

from calibration import images, sources
from exporter.errors import UsageError

RECIPE = models.VIT
SHAPE = RECIPE.inputs[0].shape


@pytest.fixture()
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(40):
        path = tmp_path / f"class {i % 3}" / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40 + i, 60, 3), dtype=np.uint8)).save(path)
    return tmp_path


def rows(source):
    said = {}
    return list(source.rows(lambda name, why: said.setdefault(name, why))), said


def test_a_folder_of_any_nesting_gives_a_seeded_subset_in_order(folder):
    first, again = (sources.source(folder, RECIPE, 10, []) for _ in range(2))
    assert first.files == again.files and len(first.files) == first.count == 10
    assert list(first.files) == sorted(first.files) and not first.few
    found, said = rows(first)
    assert not said and [r.shape for r in found] == [SHAPE] * 10
    expected = images.preprocess(images.decode(first.files[3]), RECIPE.preprocessing)
    np.testing.assert_array_equal(found[3], expected)


def test_fewer_images_than_asked_for_is_said(folder):
    found = sources.source(folder, RECIPE, 512, [])
    assert found.count == 40 and "40 images" in found.few and "512" in found.few


def test_a_corrupt_file_is_skipped_and_named(folder):
    bad = folder / "class 1" / "04.png"
    bad.write_bytes(bad.read_bytes()[:100])
    found, said = rows(sources.source(folder, RECIPE, 512, []))
    assert len(found) == 39 and list(said) == [str(bad)]


def test_too_many_corrupt_files_are_an_error(folder):
    for path in sorted(folder.rglob("*.png"))[::8]:
        path.write_bytes(b"no image")
    with pytest.raises(UsageError, match="too many files") as caught:
        rows(sources.source(folder, RECIPE, 512, []))
    assert "cannot be read" in caught.value.found and "5%" in caught.value.expected


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no images"):
        sources.source(tmp_path, RECIPE, 512, [])


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_an_array_of_preprocessed_images(suffix, tmp_path):
    pixels = np.random.default_rng(0).standard_normal((6, *SHAPE), dtype=np.float32)
    path = tmp_path / f"pixels{suffix}"
    np.save(path, pixels) if suffix == ".npy" else np.savez(path, pixels=pixels, labels=np.arange(6))
    found, _ = rows(sources.source(path, RECIPE, 4, []))
    kept = [i for i in range(6) if any(np.array_equal(pixels[i], row) for row in found)]
    assert len(found) == len(kept) == 4


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3, 8, 8), np.float32), np.zeros((2, *SHAPE), np.int64), np.zeros((0, *SHAPE), np.float32)]
)
def test_an_array_of_something_else_is_refused(array, tmp_path):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(UsageError, match="holds no images of this model"):
        sources.source(tmp_path / "x.npy", RECIPE, 4, [])


def test_a_pickle_in_an_array_file_is_not_loaded(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match="holds no images"):
        sources.source(tmp_path / "x.npy", RECIPE, 4, [])


def test_a_recipes_own_generator_is_the_default():
    own = replace(RECIPE, calibration=lambda recipe: (np.full(recipe.inputs[0].shape, i) for i in range(9)))
    found, _ = rows(sources.source(None, own, 4, []))
    assert [float(r[0, 0, 0]) for r in found] == [0, 1, 2, 3] and found[0].dtype == np.float32
