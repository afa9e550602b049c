"""What each reader of images and labels says, word for word: people act on these sentences."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import models
import numpy as np
import pytest
from PIL import Image

from calibration import coco, decoding, images, labelled, sources
from exporter.errors import UsageError

RECIPE = replace(models.VIT, held_out=None)
SHAPE = RECIPE.inputs[0].shape
CALIB = "CALIB=<a folder of photographs>"


def said(function, *arguments):
    with pytest.raises(UsageError) as caught:
        made = function(*arguments)
        list(made.rows(lambda name, why: None))
    return caught.value.as_dict()


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize("arrays, found", [
    ({"a": np.zeros(1), "b": np.zeros(1)}, "the arrays a, b"),
    ({}, "the arrays none"),
    ({"x": np.zeros((2, 3), np.float32)}, "float32 (2, 3)"),
    ({"x": np.array([{"a": 1}], object)}, "Object arrays cannot be loaded when allow_pickle=False"),
])  # fmt: skip
def test_an_array_file_that_is_none_of_this_model(arrays, found, tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    assert said(sources.source, path, RECIPE, 4, []) == {
        "what": f"{path} holds no images of this model",
        "stage": "calibrate",
        "found": found,
        "expected": f"an array of floats (N, {SHAPE[0]}, {SHAPE[1]}, {SHAPE[2]}), preprocessed as the recipe says",
        "next": CALIB,
        "exit_code": 2,
    }


def test_an_array_of_several_gibibytes_is_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, pixels=np.zeros((2, *SHAPE), np.float32))
    bytes_ = 2 * 4 * int(np.prod(SHAPE)) + 128
    monkeypatch.setattr(sources, "LARGEST", bytes_ - 1)
    size = f"{bytes_ / 2**30:.1f} GiB when unpacked; a .npy file is read in place"
    assert said(sources.source, path, RECIPE, 4, [])["found"] == size
    monkeypatch.setattr(sources, "LARGEST", bytes_)
    assert sources.source(path, RECIPE, 4, []).count == 2


def test_the_size_of_an_array_that_is_too_large_is_in_gibibytes(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, pixels=np.zeros(3 << 26, np.uint8))
    monkeypatch.setattr(sources, "LARGEST", 1 << 27)
    assert said(sources.source, path, RECIPE, 4, [])["found"].startswith("0.2 GiB when unpacked")


def test_text_and_an_error_without_words_are_named(tmp_path, monkeypatch):
    import zipfile

    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("notes.txt", "x")
    assert said(sources.source, path, RECIPE, 4, [])["found"] == "a file that is no array"

    def load(*words, **more):
        raise KeyError

    monkeypatch.setattr(sources.np, "load", load)
    assert said(sources.source, path, RECIPE, 4, [])["found"] == "KeyError"


@pytest.mark.parametrize("count, few", [(2, ""), (3, ""), (4, "3 images to calibrate on, 4 were asked for")])
def test_an_array_says_its_file_its_number_and_where_it_is_short(count, few, tmp_path):
    path = tmp_path / "x.npy"
    pixels = np.random.default_rng(0).standard_normal((3, *SHAPE)).astype(np.float16)
    np.save(path, pixels)
    found = sources.source(path, RECIPE, count, [])
    assert (found.name, found.count, found.files, found.few) == (str(path), min(count, 3), (path,), few)
    rows = list(found.rows(lambda name, why: None))
    assert all(row.dtype == np.float32 for row in rows)
    assert all(any(np.array_equal(row, p.astype(np.float32)) for p in pixels) for row in rows)


def test_a_npy_file_is_read_where_it_lies(tmp_path, monkeypatch):
    path, calls = tmp_path / "x.npy", []
    np.save(path, np.zeros((1, *SHAPE), np.float32))
    load = np.load
    monkeypatch.setattr(sources.np, "load", lambda *words, **more: calls.append(more) or load(*words, **more))
    sources.source(path, RECIPE, 1, [])
    assert calls == [{"mmap_mode": "r", "allow_pickle": False}]


def test_the_array_called_pixels_is_taken_among_others_and_the_only_one_by_any_name(tmp_path):
    ones = np.ones((1, *SHAPE), np.float32)
    np.savez(tmp_path / "two.npz", first=np.zeros(3), pixels=ones)
    np.savez(tmp_path / "one.npz", images=ones)
    for name in ("two.npz", "one.npz"):
        (row,) = sources.source(tmp_path / name, RECIPE, 1, []).rows(lambda name, why: None)
        assert (row == 1).all()


def test_a_source_is_named_by_what_it_reads(tmp_path):
    files = [picture(tmp_path / f"{i}.png", i) for i in range(3)]
    own = replace(RECIPE, calibration=lambda recipe: iter(np.zeros((9, *recipe.inputs[0].shape))))
    assert (sources.source(None, own, 4, []).name, sources.source(None, own, 4, []).count) == (
        f"{RECIPE.name}'s own images", 4)  # fmt: skip
    assert sources.source(tmp_path, own, 4, []).name == str(tmp_path)
    plain = sources.source(None, RECIPE, 3, files)
    assert (plain.name, plain.files, plain.few) == ("the photographs of parity", tuple(files), "")
    assert sources.source(None, RECIPE, 4, files).few == "3 images to calibrate on, 4 were asked for"


def test_a_subset_is_drawn_without_repetition_and_whole_where_all_are_asked_for():
    assert sources.subset([3, 1, 2], 3) == [3, 1, 2]
    for count in range(1, 30):
        drawn = sources.subset(list(range(30)), count)
        assert len(set(drawn)) == count and drawn == sorted(drawn)


@pytest.mark.parametrize("names, where", [
    (["a/1.png"], "a"), (["a/1.png", "b/2.png"], "."), (["a/b/1.png", "a/b/2.png"], "a/b"),
])  # fmt: skip
def test_too_many_that_are_no_images_are_told_with_the_folder_of_all(names, where, tmp_path):
    files = [tmp_path / name for name in names]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no image")
    error = said(sources.source, None, RECIPE, 9, files)
    assert error["what"] == f"too many files of {(tmp_path / where).resolve()} are no images"
    assert (error["stage"], error["next"]) == ("calibrate", CALIB)


def test_the_last_unreadable_file_that_is_allowed_and_the_first_that_is_not(tmp_path):
    files = [picture(tmp_path / f"{i:02}.png", i) for i in range(20)]
    files[3].write_bytes(b"no image")
    told = []
    assert len(list(decoding.decoded(files, lambda *w: told.append(w), "here", "stage", "hint"))) == 19
    (name, why), *more = told
    assert (name, more) == (str(files[3]), []) and why and why != "None"
    files[5].write_bytes(b"no image")
    with pytest.raises(UsageError) as caught:
        list(decoding.decoded(files, lambda *w: None, "here", "stage", "hint"))
    assert caught.value.as_dict() == {
        "what": "too many files of here are no images", "stage": "stage", "next": "hint", "exit_code": 2,
        "found": f"2 of the first 6 cannot be read, the last one 05.png: {why.replace('03.png', '05.png')}",
        "expected": "at most 5% of 20",
    }  # fmt: skip


def test_a_model_without_labelled_images():
    assert said(labelled.source, None, RECIPE, 10) == {
        "what": "there are no labelled images of this model", "model": RECIPE.name, "stage": "accuracy",
        "found": "no DATA, and the recipe has none of its own",
        "expected": "a folder with one folder of images for each class",
        "next": f"make accuracy MODEL={RECIPE.name} DATA=<imagenet/val>", "exit_code": 2,
    }  # fmt: skip


@pytest.mark.parametrize("loose, found", [(False, "2 folders with images"),
                                          (True, "2 folders with images and 1 images beside them")])  # fmt: skip
def test_folders_that_are_not_the_classes(loose, found, tmp_path):
    for name in ("a/1.png", "b/2.png", *(["3.png"] if loose else [])):
        picture(tmp_path / name)
    assert said(labelled.source, tmp_path, RECIPE, 3) == {
        "what": f"the folders of {tmp_path} are not this model's classes", "model": RECIPE.name, "stage": "accuracy",
        "found": found, "exit_code": 2,
        "expected": "3 folders, one for each class, in the order of the model's outputs when sorted",
        "next": "DATA=<such a folder>, or WEIGHTS=<a checkpoint with as many classes>",
    }  # fmt: skip


def test_labelled_images_say_their_folder_and_their_number_and_what_is_broken(tmp_path):
    files = [picture(tmp_path / name) for name in ("a/1.png", "b/2.png")]
    found = labelled.source(tmp_path, RECIPE, 2)
    assert (found.name, found.count) == (str(tmp_path), 2)
    files[1].write_bytes(b"no image")
    error = said(labelled.source, tmp_path, RECIPE, 2)
    assert error["what"] == f"too many files of {tmp_path} are no images"
    assert (error["stage"], error["next"]) == ("accuracy", "DATA=<another folder>")


def test_a_recipes_held_out_images_are_numbered():
    own = replace(RECIPE, held_out=lambda recipe: [(np.zeros(recipe.inputs[0].shape), 4)])
    found = labelled.source(None, own, 10)
    ((name, row, label),) = found.rows(lambda name, why: None)
    assert (found.name, found.count, name, label) == (f"{RECIPE.name}'s held-out images", None, "held-out image 0", 4)
    assert row.shape == SHAPE


IMAGE, BOX = {"id": 1, "file_name": "a.jpg"}, {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}


@pytest.mark.parametrize("content, found", [
    ({}, "no lists of images and annotations"),
    ({"images": [{"file_name": "a"}], "annotations": []}, "images[0] has no id of its own or no file_name"),
    ({"images": [{"id": 1}], "annotations": []}, "images[0] has no id of its own or no file_name"),
    ({"images": [IMAGE, IMAGE], "annotations": []}, "images[1] has no id of its own or no file_name"),
    *(
        ({"images": [IMAGE], "annotations": [{k: v for k, v in BOX.items() if k != key}]},
         "annotations[0] has no image_id, category_id or bbox")
        for key in BOX
    ),
    ({"images": [IMAGE], "annotations": [BOX | {"image_id": 2}]}, "annotations[0] is of image 2, which is not listed"),
    *(
        ({"images": [IMAGE], "annotations": [BOX | {"bbox": box}]},
         f"annotations[0] has the bbox {box}, not left, top, width and height")
        for box in ([1, 2, 3], [1, 2, 3, "4"], [True, 2, 3, 4], [1, 2, -1, 4], [1, 2, 3, -0.5])
    ),
])  # fmt: skip
def test_an_annotation_file_that_is_none(content, found, tmp_path):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError) as caught:
        coco.instances(path)
    assert caught.value.as_dict() == {
        "what": f"{path} is no COCO annotation file", "stage": "accuracy", "found": found, "exit_code": 2,
        "expected": "COCO's instances: lists of images (id, file_name) and annotations (image_id, category_id, bbox)",
    }  # fmt: skip


def test_boxes_without_extent_names_beyond_ascii_and_crowds_are_read(tmp_path):
    path = tmp_path / "instances.json"
    boxes = [BOX, BOX | {"bbox": [0, 0, 0, 0]}, BOX | {"iscrowd": 1}, BOX | {"iscrowd": 0}]
    text = json.dumps({"images": [IMAGE | {"file_name": "Zoë.jpg"}], "annotations": boxes}, ensure_ascii=False)
    path.write_bytes(text.encode())
    (found,) = coco.instances(path).values()
    assert list(coco.instances(path)) == ["Zoë.jpg"]
    assert [(i.corners, i.crowd) for i in found] == [
        ((1, 2, 4, 6), False), ((0, 0, 0, 0), False), ((1, 2, 4, 6), True), ((1, 2, 4, 6), False)]  # fmt: skip


def test_a_path_that_is_no_folder_of_images(tmp_path):
    missing = said(images.files, tmp_path / "none")
    assert missing["what"] == f"the image folder {tmp_path / 'none'} does not exist"
    assert missing["expected"] == "a folder with JPEG, PNG or WebP files"
    file = picture(tmp_path / "x.png")
    assert said(images.files, file)["what"] == f"{file} is not a folder"


def test_what_is_no_file_is_called_what_it_is(tmp_path):
    (tmp_path / "folder").mkdir()
    end = socket.socket(socket.AF_UNIX)
    end.bind(str(tmp_path / "s"))
    try:
        assert images._kind(tmp_path / "s") == "socket"
    finally:
        end.close()
    assert images._kind(Path("/dev/null")) == "device"
