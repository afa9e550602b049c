import importlib.metadata
import json
import socket
import sys
from types import SimpleNamespace

import pytest

from exporter import cli, doctor, memory
from exporter.backends import tensorrt


def test_every_finding_that_is_not_well_says_what_to_type(tmp_path):
    found = doctor.examine(tmp_path)
    assert {"Python", "OUT", "disk", "memory", "compiler", "GPU", "hub"} <= {f.what for f in found}
    assert all(bool(f.next) == (f.status != doctor.OK) and f.found for f in found)


def test_an_old_python_is_broken(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    assert doctor.python().status == doctor.BROKEN


@pytest.mark.parametrize("wanted, status, says", [
    ("no-such-package-anywhere>=1", doctor.BROKEN, "not installed"),
    ("numpy==0.1", doctor.LIMITED, "not ==0.1"),
])  # fmt: skip
def test_a_library_that_is_missing_or_another_is_named(wanted, status, says, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: [wanted, "pytest>=1; extra == 'dev'"])
    (finding,) = doctor.libraries()
    assert finding.status == status and says in finding.found and wanted in finding.next


def test_a_folder_that_cannot_be_written_is_broken_and_the_exit_code_2(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert doctor.folder(tmp_path / "file" / "out").status == doctor.BROKEN
    assert cli.main(["doctor", "--json", "--out", str(tmp_path / "file")]) == 2
    assert any(row["status"] == "broken" for row in json.loads(capsys.readouterr().out))


def test_little_disk_and_memory_are_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**30)
    assert (doctor.disk(tmp_path).status, doctor.ram().status) == (doctor.LIMITED, doctor.LIMITED)


def test_without_a_gpu_it_says_what_still_works(monkeypatch):
    monkeypatch.setattr(tensorrt, "cuda_device", lambda: (None, "no CUDA driver"))
    finding = doctor.gpu()
    assert (
        finding.status == doctor.LIMITED and "no CUDA driver" in finding.found and "engines are built" in finding.found
    )


@pytest.mark.parametrize("answers", [True, False])
def test_the_hub_is_tried(answers, monkeypatch):
    from exporter import weights

    def connect(address, timeout):
        if not answers:
            raise OSError(113, "No route to host")
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(weights, "_behind_a_proxy", lambda host: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "create_connection", connect)
    finding = doctor.hub()
    assert finding.status == (doctor.OK if answers else doctor.LIMITED) and ("No route" in finding.found) != answers
