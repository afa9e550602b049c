import json
import os
from pathlib import Path

import pytest

from exporter import files
from exporter.errors import UsageError


def test_no_two_lists_of_texts_have_one_hash():
    assert files.sha256_text("ab", "c") != files.sha256_text("a", "bc")


def test_a_file_is_replaced_in_one_step_and_a_failed_write_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})
    monkeypatch.setattr(os, "replace", lambda a, b: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError):
        files.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_published_whole_over_an_older_one(exchange, tmp_path, monkeypatch):
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda a, b: False)
    final = tmp_path / "final"
    for text in ("one", "two"):
        built = tmp_path / "built"
        built.mkdir()
        (built / text).write_text(text)
        files.publish_folder(built, final)
        assert [p.name for p in final.iterdir()] == [text]
    assert [p.name for p in tmp_path.iterdir()] == ["final"]


def test_scratch_files_lie_in_the_output_folder_and_go(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/nowhere")
    with files.scratch(tmp_path / "out") as folder:
        (folder / "x").touch()
        assert folder.is_relative_to(tmp_path / "out")
    assert not folder.exists()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write"), files.scratch(tmp_path / "file"):
        pass


def test_a_folder_as_a_command_takes_it():
    assert files.as_knob(Path("build")) == "" and files.as_knob(Path("/a b")) == " OUT='/a b'"
