import pytest

from exporter.jsonfile import ANY, AXIS, FINITE, LINE, NUMBER, SHA256, SIZE, Damaged, fault, read


@pytest.mark.parametrize("value, shape", [
    ({"a": 1, "more": "x"}, {"a": int}),
    ({"a": 1.5}, {"a": NUMBER}),
    ({"a": "inf", "b": "nan"}, {ANY: NUMBER}),
    ({"a": [{"b": "x"}, {"b": "y"}]}, {"a": [{"b": str}]}),
    ({}, {ANY: str}),
    ({"a": None}, {"a?": int, "b?": int}),
    ([1, "x"], (int, str)),
    ([1, 2, 3], (int, ...)),
    ([8, "batch", None], [AXIS]),
    ({"a": "x"}, {"a": {"x", "y"}}),
    ({"a": 0.5, "b": 3}, {"a": FINITE, "b": SIZE}),
    ({"a": "µ-vit 2", "b": "0f" * 32}, {"a": LINE, "b": SHA256}),
])  # fmt: skip
def test_what_has_the_shape_has_no_fault(value, shape):
    assert fault(value, shape) == ""


@pytest.mark.parametrize("value, shape, says", [
    ([], {"a": int}, "the file is no object"),
    ({"b": 1}, {"a": int}, "a is missing"),
    ({"a": {"b": 1}}, {"a": {"c": int}}, "a.c is missing"),
    ({"a": [{"b": "x"}, {"b": 1}]}, {"a": [{"b": str}]}, "a[1].b is no str"),
    ({"a": True}, {"a": NUMBER}, "a is no number"),
    ({"a": "many"}, {"a": NUMBER}, "a is no number"),
    ({"a": {}}, {"a": [int]}, "a is no list"),
    ({"a": "x"}, {"a?": int}, "a is no int"),
    ({"a": 1, "b": "x"}, {"a": int, ANY: int}, "b is no int"),
    ({"x": {"b": 1}, "y": {}}, {ANY: {"b": int}}, "y.b is missing"),
    ({"a": [1]}, {"a": (int, int)}, "a is no list of 2"),
    ({"a": [1, "x"]}, {"a": (int, int)}, "a[1] is no int"),
    ({"a": True}, {"a": int}, "a is no int"),
    ({"a": "nan"}, {"a": FINITE}, "a is no finite number"),
    ({"a": float("inf")}, {"a": FINITE}, "a is no finite number"),
    ({"a": 0}, {"a": SIZE}, "a is no size"),
    ({"a": 1 << 31}, {"a": SIZE}, "a is no size"),
    ({"a": "x\n#include <evil>"}, {"a": LINE}, "a is no line of text"),
    ({"a": "0F" * 32}, {"a": SHA256}, "a is no SHA-256"),
    ({"a": []}, {"a": (int, ...)}, "a is no list of one or more"),
    ({"a": [1, "x"]}, {"a": (int, ...)}, "a[1] is no int"),
    ({"a": [0]}, {"a": [AXIS]}, "a[0] is no axis"),
    ({"a": ["}; evil("]}, {"a": [AXIS]}, "a[0] is no axis"),
    ({"a": "z"}, {"a": {"x", "y"}}, "a is none of x, y"),
    ({"a": [1]}, {"a": {"x", "y"}}, "a is none of x, y"),
    ({"a": []}, {"a": NUMBER}, "a is no number"),
])  # fmt: skip
def test_the_first_fault_is_named_with_its_place(value, shape, says):
    assert fault(value, shape) == says


@pytest.mark.parametrize("text, says", [
    (b"{", "manifest.json is no JSON"),
    (b"\xff\xfe", "manifest.json is no JSON"),
    (b"[1]", "manifest.json: the file is no object"),
    (b'{"a": "b"}', "manifest.json: a is no int"),
])  # fmt: skip
def test_a_damaged_file_is_named(tmp_path, text, says):
    (tmp_path / "manifest.json").write_bytes(text)
    with pytest.raises(Damaged, match=says):
        read(tmp_path / "manifest.json", {"a": int})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(Damaged, match=r"a\.json is missing"):
        read(tmp_path / "a.json", {})
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(Damaged, match=r"folder\.json cannot be read"):
        read(tmp_path / "folder.json", {})
