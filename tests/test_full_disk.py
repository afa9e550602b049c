"""A disk that ends in the middle of a build: a real one, a tmpfs without a free byte, at every stage in turn."""

import contextlib
import errno
import os
import shutil
import subprocess

import pytest
from models import VIT

from exporter import passport, pipeline, registry
from exporter.errors import UsageError
from exporter.progress import Progress
from exporter.types import Request

SIZE = 96 << 20
WRITING = [s.NAME for s in pipeline.STAGES if s.NAME not in ("islands", "engine_parity")]
"""Stages of an INT8 build; there are no islands without a budget, and no engine is run without a GPU."""


def request(out):
    return Request(VIT, registry.precision("int8"), VIT.batch, ("sm80",), "tensorrt-rtx", "random", "fp32", out,
                   command="test")  # fmt: skip


def build(out):
    return pipeline.run(request(out), Progress(quiet=True))


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A file system of its own that holds one whole build."""
    where = tmp_path_factory.mktemp("disk")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", where], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"a tmpfs cannot be mounted: {made.stderr.strip()}")
    try:
        build(where)
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=False)


@contextlib.contextmanager
def full(disk):
    """Not a byte is free inside of this block."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 10))
    try:
        yield
    finally:
        filler.unlink()


def files(folder):
    return {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("stage", WRITING)
def test_a_stage_that_cannot_write_says_so_leaves_nothing_half_written_and_the_bundle_whole(disk, stage):
    there, bundle = files(disk), disk / "tiny_vit" / "int8"
    shutil.rmtree(disk / ".cache" / stage)
    with full(disk):
        with pytest.raises(UsageError, match="cannot write") as caught:
            build(disk)
        assert not list((disk / ".cache" / "tmp").glob("*/*"))
    assert os.strerror(errno.ENOSPC) in caught.value.found and "OUT=" in caught.value.next
    assert passport.read(bundle).manifest["status"] == "passed"
    build(disk)
    assert files(disk) == there


def test_a_bundle_that_cannot_be_published_leaves_the_one_before(disk):
    bundle = disk / "tiny_vit" / "int8"
    before = (bundle / "manifest.json").read_bytes()
    (bundle / "parity.json").write_text("{}")  # no longer what the build made: it is published again
    with full(disk), pytest.raises(UsageError, match="cannot write"):
        build(disk)
    assert (bundle / "manifest.json").read_bytes() == before
    assert sorted(p.name for p in bundle.parent.iterdir() if p.name.startswith(".")) == []
    build(disk)
    assert (bundle / "parity.json").read_text() != "{}"


def test_an_out_that_is_mounted_for_reading_only_is_an_error_of_ours(disk, tmp_path):
    subprocess.run(["mount", "--bind", disk, tmp_path], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", tmp_path], check=True)
        with pytest.raises(UsageError, match="cannot write") as caught:
            build(tmp_path)
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)
    assert os.strerror(errno.EROFS) in caught.value.found
