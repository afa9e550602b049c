"""COCO annotation files, good and bad."""

import json

import pytest

from calibration.coco import Instance, instances
from exporter.errors import UsageError

IMAGES = [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}]
OBJECT = {"image_id": 7, "category_id": 18, "bbox": [10, 20, 30.5, 40], "iscrowd": 0}


def written(folder, content):
    file = folder / "instances.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_objects_are_found_by_their_files_name(tmp_path):
    content = {"images": IMAGES, "annotations": [OBJECT, OBJECT | {"iscrowd": 1}]}
    corners = (10, 20, 40.5, 60)
    assert instances(written(tmp_path, content)) == {
        "a.jpg": [Instance(corners, 18, False), Instance(corners, 18, True)],
        "b.jpg": [],
    }


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{", "Expecting"),
        ([], "no lists"),
        ({"images": IMAGES}, "no lists"),
        ({"images": [{"id": 1}], "annotations": []}, r"images\[0\]"),
        ({"images": [IMAGES[0], IMAGES[0]], "annotations": []}, r"images\[1\]"),
        ({"images": IMAGES, "annotations": [3]}, r"annotations\[0\]"),
        ({"images": IMAGES, "annotations": [OBJECT | {"image_id": 8}]}, "image 8, which is not listed"),
        ({"images": IMAGES, "annotations": [OBJECT, OBJECT | {"bbox": [1, 2, 3]}]}, r"annotations\[1\] has the bbox"),
        ({"images": IMAGES, "annotations": [OBJECT | {"bbox": [1, 2, -3, 4]}]}, "bbox"),
        ({"images": IMAGES, "annotations": [OBJECT | {"bbox": [1, 2, float("nan"), 4]}]}, "bbox"),
    ],
)
def test_a_bad_file_is_named_with_its_wrong_entry(tmp_path, content, found):
    file = written(tmp_path, content)
    with pytest.raises(UsageError, match=found) as error:
        instances(file)
    assert str(file) in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.json is no COCO annotation file"):
        instances(tmp_path / "none.json")
