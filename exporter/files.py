"""Files and folders that appear whole or not at all, and their hashes."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import shlex
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exporter.errors import UsageError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
"""What the system says of a disk that takes no more; every other error is a fault of ours."""


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as f:
        while chunk := f.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


def as_knob(out: Path) -> str:
    """`` OUT=<folder>`` as a command takes it, nothing for the folder that it takes by itself."""
    return "" if str(out) == "build" else f" OUT={shlex.quote(str(out))}"


def sha256_text(*parts: str) -> str:
    """One SHA-256 over texts, each length-prefixed so that no two lists of texts collide."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode()
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file so that its final name never shows half of it: temporary name, fsync, rename."""
    raw = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "wb") as f:
            f.write(raw)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """``data`` as indented JSON with a final newline, atomically."""
    write_atomically(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def place(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source``: a hard link where that is possible, else a copy.

    External data of an ONNX model is copied: onnx refuses to read it from a file that has two names.
    """
    try:
        linked = source.suffix != ".data"
        if linked:
            os.link(source, target)
    except OSError:
        linked = False
    if not linked:
        shutil.copyfile(source, target)
        sync(target)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def scratch(out: Path) -> Iterator[Path]:
    """A folder in ``out`` for files that nobody keeps: the system's temporary one may be small, full or read-only."""
    place = out / ".cache" / "tmp"  # what a killed build leaves there goes with the next one
    try:
        place.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True)
    except OSError as error:
        raise unwritable(out, error) from None
    with folder as name:
        yield Path(name)


def publish_folder(built: Path, final: Path) -> None:
    """Put the folder ``built`` where ``final`` is, in one step; what was at ``final`` is deleted afterwards."""
    if not final.exists():
        os.rename(built, final)
        return
    if not _exchange(built, final):  # no renameat2 here: two renames, the old folder is back if the second fails
        aside = built.with_name(built.name + ".old")
        os.rename(final, aside)
        try:
            os.rename(built, final)
        except OSError:
            os.rename(aside, final)
            raise
        built = aside
    shutil.rmtree(built, ignore_errors=True)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two paths atomically (Linux ``renameat2`` with RENAME_EXCHANGE); False where that does not exist."""
    at_fdcwd, rename_exchange = -100, 2
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return call(at_fdcwd, os.fsencode(a), at_fdcwd, os.fsencode(b), rename_exchange) == 0


def unwritable(folder: Path, error: OSError, knob: str = "OUT") -> UsageError:
    """The error for the folder of ``knob`` that the system does not let us write, or that is on a full disk."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return UsageError(
        f"cannot write to {folder}",
        found=error.strerror or str(error),
        expected="room for a few times the model's size" if full else "a folder that this user may write",
        next=f"free some, or {knob}=<a folder on another disk>" if full else f"{knob}=<another folder>",
    )
