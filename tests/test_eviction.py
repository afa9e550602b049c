import os
import time

import pytest

from exporter import eviction
from exporter.errors import UsageError
from exporter.store import Store


def cache(root, ages):
    """Entries of a thousand bytes and a record, last used so many seconds ago."""
    store, made = Store(root), {}

    def run(folder):
        (folder / "x").write_bytes(b"0" * 1000)
        return {}, {}

    for i, age in enumerate(ages):
        made[i] = store.build("trace", f"key{i}", {}, run)
        when = time.time() - age
        os.utime(made[i].folder / "entry.json", (when, when))
    return store, made


def sizes(root):
    return {kept.folder.name: kept.bytes for kept in eviction.entries(root)}


def test_the_least_recently_used_go_first_and_no_more_than_must(tmp_path):
    cache(tmp_path, [9000, 90000, 5000])
    size = sum(sizes(tmp_path).values())
    gone = eviction.evict(tmp_path, size - 1)
    assert [kept.folder.name for kept in gone] == ["key1"] and set(sizes(tmp_path)) == {"key0", "key2"}
    assert eviction.evict(tmp_path, size) == []


def test_what_was_used_within_the_hour_stays_whatever_the_limit(tmp_path):
    cache(tmp_path, [10, 7200])
    assert [kept.folder.name for kept in eviction.evict(tmp_path, 0)] == ["key1"]


def test_finding_an_entry_is_using_it(tmp_path):
    store, _ = cache(tmp_path, [9000, 8000])
    assert store.find("trace", "key0") is not None
    assert [kept.folder.name for kept in eviction.evict(tmp_path, 0)] == ["key1"]


def test_clear_takes_all_and_leaves_the_rest(tmp_path):
    cache(tmp_path, [10, 20])
    (tmp_path / "locks").mkdir()
    assert len(eviction.clear(tmp_path)) == 2 and sizes(tmp_path) == {} and (tmp_path / "locks").is_dir()
    assert eviction.clear(tmp_path / "none") == []


@pytest.mark.parametrize("text, count", [("100", 100), ("20G", 20 * 10**9), ("1.5 kB", 1500), (None, eviction.LIMIT)])
def test_limits(text, count):
    assert eviction.parse_limit(text) == count


@pytest.mark.parametrize("text", ["", "much", "-1", "20X", "1e3"])
def test_limits_that_are_none(text):
    with pytest.raises(UsageError, match="CACHE_LIMIT"):
        eviction.parse_limit(text)


def test_clean_cache_waits_for_no_build_and_takes_nothing_from_one(tmp_path, capsys):
    from exporter import cli
    from exporter.store import Store

    running = Store(tmp_path / ".cache")
    running.join()
    entry = running.build("stage", "k", {}, lambda folder: ({}, {}))
    assert cli.main(["clean-cache", "--out", str(tmp_path)]) == 2
    assert "in use" in capsys.readouterr().err and entry.folder.exists()
    del running
    assert cli.main(["clean-cache", "--cache", str(tmp_path / ".cache")]) == 0 and not entry.folder.exists()
    assert cli.main(["clean-cache", "--cache", "s3://bucket/x"]) == 2
