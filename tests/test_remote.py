"""The shared cache, over fsspec's own local and in-memory storage: the same calls that reach S3."""

import json

import pytest

from exporter.errors import UsageError
from exporter.remote import Remote, is_file_name
from exporter.store import Store


def build(store, data=b"hello"):
    def run(folder):
        (folder / "a.bin").write_bytes(data)
        return {"fact": 1}, {}

    return store.build("stage", "k", {}, run)


@pytest.fixture
def two(tmp_path):
    """Two machines with caches of their own and a shared one, what they said, and the shared folder."""
    said = []
    url = f"file://{tmp_path}/shared"
    stores = [Store(tmp_path / name, said.append, Remote(url, said.append)) for name in ("one", "two")]
    return *stores, said, tmp_path / "shared" / "stage" / "k"


def test_what_one_machine_built_another_one_uses(two):
    one, other, said, _ = two
    assert other.find("stage", "k") is None
    build(one)
    found = other.find("stage", "k")
    assert found.reused and found.meta == {"fact": 1} and found.path("a.bin").read_bytes() == b"hello"
    assert found.folder.is_relative_to(other.root) and said == []


def test_two_machines_that_built_one_stage_differently_do_not_mix_their_files(two, tmp_path):
    one, other, said, _ = two
    build(one, b"first")
    build(other, b"second")
    third = Store(tmp_path / "three", said.append, Remote(f"file://{tmp_path}/shared", said.append))
    assert third.find("stage", "k").path("a.bin").read_bytes() == b"second" and said == []


@pytest.mark.parametrize("damage", [
    lambda place, record: next(p for p in place.iterdir() if p.name != "entry.json").write_bytes(b"hellO"),
    lambda place, record: (place / "entry.json").write_text("{"),
    lambda place, record: (place / "entry.json").write_text("[]"),
    lambda place, record: (place / "entry.json").write_text(json.dumps(
        record | {"files": {"../../evil": next(iter(record["files"].values()))}})),
    lambda place, record: (place / "entry.json").write_text(json.dumps(
        record | {"files": {"a.bin": {"sha256": "../" * 20 + "etc", "bytes": 1}}})),
])  # fmt: skip
def test_a_damaged_or_hostile_remote_entry_is_reported_and_never_used(damage, two, tmp_path):
    one, other, said, place = two
    build(one)
    damage(place, json.loads((place / "entry.json").read_text()))
    assert other.find("stage", "k") is None
    assert len(said) == 1 and "built again" in said[0]
    assert not list(tmp_path.rglob("evil")) and not list((other.root / "tmp").iterdir())


def test_an_upload_that_broke_off_is_no_entry(two):
    one, other, said, place = two
    build(one)
    (place / "entry.json").unlink()
    assert other.find("stage", "k") is None and said == []


def test_storage_that_fails_is_warned_of_once_and_the_build_goes_on(two, monkeypatch):
    one, _, said, _ = two
    monkeypatch.setattr(one.remote._fs, "exists", lambda path: (_ for _ in ()).throw(OSError("no route to host")))
    assert one.find("stage", "k") is None
    assert build(one).path("a.bin").read_bytes() == b"hello"
    assert len(said) == 1 and "no route to host" in said[0] and "goes on" in said[0]


@pytest.mark.parametrize("url", ["nonsense://x/y"])
def test_an_address_that_nothing_serves_is_refused(url):
    with pytest.raises(UsageError, match="cannot be used"):
        Remote(url)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "a\\b", "a\0"])
def test_names_from_records_are_no_paths(name):
    assert not is_file_name(name) and is_file_name("model.onnx")
