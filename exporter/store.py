"""A content-addressed cache of stage outputs.

An entry is a folder ``<cache>/<stage>/<key>`` that holds the stage's files and ``entry.json`` with their hashes;
its key is the SHA-256 of everything that can change the output. An entry is written to a temporary folder and
renamed, so it is there whole or not at all; it is checked against its hashes before it is used, and one that
does not match is rebuilt.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter.files import FULL, sha256_file, sha256_text, sync, unwritable, write_json
from exporter.remote import Remote, is_file_name

ENTRY = "entry.json"

STALE_SECONDS = 24 * 3600
"""No stage runs this long: temporary folders that are older belong to builds that were killed."""


def key_of(parts: dict[str, Any]) -> str:
    """A stage's key: the hash of its named parts, whatever their order."""
    return sha256_text(json.dumps(parts, sort_keys=True, default=str))


@dataclass
class Entry:
    """A finished stage: its folder, what it wrote, and what it said (``meta``)."""

    stage: str
    key: str
    folder: Path
    files: dict[str, dict[str, Any]]
    meta: dict[str, Any]
    seconds: float
    reused: bool = False
    memory: dict[str, Any] = field(default_factory=dict)
    """Objects of this process that equal the files, so that the next stage need not read them again."""

    @property
    def bytes(self) -> int:
        """The size of all its files."""
        return sum(fact["bytes"] for fact in self.files.values())

    def path(self, name: str) -> Path:
        return self.folder / name

    def broken(self) -> str | None:
        """The first file that is missing or not what was written, or None."""
        for name, fact in self.files.items():
            if not is_file_name(name):
                return f"{name!r} is no file of it"
            path = self.path(name)
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != fact["bytes"] or sha256_file(path) != fact["sha256"]:
                return f"{name} has changed since it was written"
        return None


class Store:
    """The cache folder. ``warn`` is told, in a sentence, of every entry that had to be thrown away.

    ``remote`` is asked for what is not here, and given what is built here. ``used`` are the folders of the entries
    that this run found or made: they are not evicted.
    """

    def __init__(self, root: Path, warn: Callable[[str], None] = lambda text: None, remote: Remote | None = None):
        self.root = root
        self.warn = warn
        self.remote = remote
        self.used: set[Path] = set()
        self._use: int | None = None

    def join(self) -> None:
        """Say that this process uses the cache, until the store is forgotten or the process ends, however it ends.

        Who comes when nobody else is there removes what killed builds left.
        """
        if self._use is not None:
            return
        try:
            (self.root / "locks").mkdir(parents=True, exist_ok=True)
            self._use = os.open(self.root / "locks" / "use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise unwritable(self.root, error) from None
        weakref.finalize(self, os.close, self._use)
        with self.alone() as alone:
            if alone:
                shutil.rmtree(self.root / "tmp", ignore_errors=True)

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no other process uses the cache; if so, none begins to before the block ends."""
        try:
            fcntl.flock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except OSError:
            alone = False
        try:
            yield alone
        finally:
            fcntl.flock(self._use, fcntl.LOCK_SH)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Wait until nobody else holds ``name``; the lock of a process that died is free."""
        from filelock import FileLock

        folder = self.root / "locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.root, error) from None
        with FileLock(folder / f"{name}.lock"):
            yield

    def find(self, stage: str, key: str) -> Entry | None:
        """The verified entry of that key, from here or the remote cache, or None; a broken one is removed and reported.

        Its record's time of change is when the entry was last used.
        """
        folder = self.root / stage / key
        entry = self._read(stage, key, folder, "cached") or self._fetch(stage, key, folder)
        if entry is not None:
            self.used.add(folder)
            with contextlib.suppress(OSError):  # a cache that this user may only read is used all the same
                os.utime(folder / ENTRY)
        return entry

    def _read(self, stage: str, key: str, folder: Path, where: str) -> Entry | None:
        try:
            record = json.loads((folder / ENTRY).read_text())
            entry = Entry(stage, key, folder, record["files"], record["meta"], record["seconds"], reused=True)
            fault = entry.broken()
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            self._discard(folder, f"{stage}: the {where} entry's record cannot be read")
            return None
        if fault:
            self._discard(folder, f"{stage}: {where} {fault}")
            return None
        return entry

    def _fetch(self, stage: str, key: str, folder: Path) -> Entry | None:
        """An entry of the remote cache, checked before it is put where entries are."""
        if self.remote is None:
            return None
        temporary = self._temporary(folder)
        try:
            if not self.remote.pull(stage, key, temporary) or not self._read(stage, key, temporary, "remotely cached"):
                return None
            self._publish(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return self._read(stage, key, folder, "cached")

    def _discard(self, folder: Path, why: str) -> None:
        self.warn(f"{why}; it is built again")
        self.remove(folder)

    def remove(self, folder: Path) -> None:
        """Take an entry away in one step, then delete it."""
        aside = self.root / "tmp" / uuid.uuid4().hex
        with contextlib.suppress(OSError):
            aside.parent.mkdir(parents=True, exist_ok=True)
            os.rename(folder, aside)
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)

    def _temporary(self, folder: Path) -> Path:
        """A folder to make an entry in, on the same disk as where it goes."""
        temporary = self.root / "tmp" / uuid.uuid4().hex
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir(parents=True)
            self._sweep()
        except OSError as error:
            raise unwritable(self.root, error) from None
        return temporary

    def _publish(self, temporary: Path, folder: Path) -> None:
        """Put an entry in its place; one that another machine put there meanwhile goes."""
        if folder.exists():
            self.remove(folder)
        os.rename(temporary, folder)
        sync(folder.parent)

    def build(self, stage: str, key: str, parts: dict, run: Callable[[Path], tuple[dict, dict]]) -> Entry:
        """Run ``run(folder)`` in a temporary folder and publish what it wrote under ``key``.

        ``run`` returns ``(meta, memory)``; ``meta`` must be JSON. Nothing is left behind if it raises.
        """
        folder = self.root / stage / key
        temporary = self._temporary(folder)
        try:
            started = time.perf_counter()
            meta, memory = run(temporary)
            files = {}
            for path in sorted(temporary.iterdir()):
                with open(path, "rb") as f:
                    os.fsync(f.fileno())
                files[path.name] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
            seconds = round(time.perf_counter() - started, 3)
            record = {"stage": stage, "key": key, "parts": parts, "files": files, "meta": meta, "seconds": seconds}
            write_json(temporary / ENTRY, record)
            self._publish(temporary, folder)
        except OSError as error:
            if error.errno in FULL:
                raise unwritable(self.root, error) from None
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self.used.add(folder)
        if self.remote is not None:
            self.remote.push(stage, key, folder, files)
        return Entry(stage, key, folder, files, meta, seconds, memory=memory)

    def _sweep(self) -> None:
        """Delete the temporary folders of builds that were killed and could not do it themselves."""
        for left in (self.root / "tmp").iterdir():
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > STALE_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)
