import errno
import multiprocessing
import os
import time

import pytest

from exporter import files, store
from exporter.errors import UsageError
from exporter.store import Store


def build(cache: Store, key="k", data=b"hello"):
    def run(folder):
        (folder / "a.bin").write_bytes(data)
        return {"fact": 1}, {"object": data}

    return cache.build("stage", key, {"why": key}, run)


def test_an_entry_is_found_again_with_its_facts_and_without_its_memory(tmp_path):
    made = build(Store(tmp_path))
    found = Store(tmp_path).find("stage", "k")
    assert found.path("a.bin").read_bytes() == b"hello"
    assert (found.meta, found.reused, found.memory) == ({"fact": 1}, True, {})
    assert not made.reused and made.memory == {"object": b"hello"}
    assert found.files["a.bin"]["sha256"] == files.sha256_file(found.path("a.bin"))


def test_another_key_is_not_found(tmp_path):
    build(Store(tmp_path))
    assert Store(tmp_path).find("stage", "other") is None


@pytest.mark.parametrize("damage", [
    lambda path: path.write_bytes(b"hellO"),
    lambda path: path.write_bytes(b"hell"),
    lambda path: path.unlink(),
    lambda path: path.with_name("entry.json").write_text("{"),
    lambda path: path.with_name("entry.json").write_text("{}"),
])  # fmt: skip
def test_a_damaged_entry_is_reported_removed_and_never_used(damage, tmp_path):
    said = []
    cache = Store(tmp_path, said.append)
    damage(build(cache).path("a.bin"))
    assert cache.find("stage", "k") is None
    assert len(said) == 1 and "built again" in said[0]
    assert build(cache).path("a.bin").read_bytes() == b"hello"


def test_a_stage_that_raises_leaves_nothing(tmp_path):
    def run(folder):
        (folder / "half").write_bytes(b"x")
        raise ValueError("no")

    with pytest.raises(ValueError):
        Store(tmp_path).build("stage", "k", {}, run)
    assert Store(tmp_path).find("stage", "k") is None
    assert not any(p.is_file() for p in tmp_path.rglob("*"))


def test_keys_depend_on_every_part_and_not_on_their_order():
    assert store.key_of({"a": 1, "b": 2}) == store.key_of({"b": 2, "a": 1})
    assert store.key_of({"a": 1}) != store.key_of({"a": 2})


def _hold(root, seconds):
    with Store(root).lock("x"):
        (root / "held").touch()
        time.sleep(seconds)


def test_a_lock_is_waited_for_and_a_killed_holder_does_not_keep_it(tmp_path):
    holder = multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path, 60))
    holder.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    holder.kill()
    holder.join()
    started = time.monotonic()
    with Store(tmp_path).lock("x"):
        assert time.monotonic() - started < 5


def test_a_cache_that_cannot_be_written_is_a_usage_error(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UsageError, match="cannot write"):
        build(Store(tmp_path / "cache"))


def test_a_full_disk_is_a_usage_error_that_leaves_nothing(tmp_path):
    def run(folder):
        (folder / "half").write_bytes(b"x")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UsageError, match="No space left") as caught:
        Store(tmp_path).build("stage", "k", {}, run)
    assert "free some" in caught.value.next
    assert not any(p.is_file() for p in tmp_path.rglob("*"))


def test_what_killed_builds_left_is_swept_and_what_runs_is_not(tmp_path):
    old, running = tmp_path / "tmp" / "old", tmp_path / "tmp" / "running"
    for folder in (old, running):
        folder.mkdir(parents=True)
        (folder / "half").write_bytes(b"x")
    os.utime(old, (time.time() - store.STALE_SECONDS - 60,) * 2)
    build(Store(tmp_path))
    assert running.exists() and not old.exists()


def test_what_killed_builds_left_goes_when_nobody_else_builds(tmp_path):
    running = Store(tmp_path)
    running.join()
    (tmp_path / "tmp" / "half").mkdir(parents=True)
    Store(tmp_path).join()
    assert (tmp_path / "tmp" / "half").exists()
    del running
    Store(tmp_path).join()
    assert not (tmp_path / "tmp" / "half").exists()
