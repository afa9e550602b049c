"""A cache that machines share: finished entries in any storage that fsspec reaches (``s3://``, ``gs://``, ``file://``).

An entry's files lie there under their own hashes and its record is written last, so two machines that build the same
stage at once never mix their files, and an upload that broke off is no entry. What comes back is checked against its
hashes like any entry. Storage that cannot be reached is warned of once, and the build goes on without it.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable
from pathlib import Path

from exporter.errors import UsageError

RECORD = "entry.json"
LARGEST_RECORD = 64 << 20
"""Bytes of an entry's record: a manifest's worth of facts. What is longer is none of ours."""


def is_url(text: str) -> bool:
    return "://" in text


class Remote:
    """``warn`` is told, in a sentence, when the storage fails; after that it is left alone."""

    def __init__(self, url: str, warn: Callable[[str], None] = lambda text: None):
        self.url, self.warn, self._down = url, warn, False
        try:
            from fsspec.core import url_to_fs

            self._fs, self._root = url_to_fs(url)
        except ImportError as error:
            raise _unusable(url, str(error), f".venv/bin/pip install {_package(url)}") from None
        except Exception as error:  # every kind of storage has its own way to refuse an address
            raise _unusable(url, _first_line(error), "CACHE=s3://bucket/folder, or a path") from None

    def pull(self, stage: str, key: str, folder: Path) -> bool:
        """Fetch an entry into the existing ``folder``; False where it is not there. The caller checks its hashes."""
        if self._down:
            return False
        with self._reached():
            place = f"{self._root}/{stage}/{key}"
            if not self._fs.exists(f"{place}/{RECORD}") or self._fs.size(f"{place}/{RECORD}") > LARGEST_RECORD:
                return False
            raw = self._fs.cat_file(f"{place}/{RECORD}")
            try:
                files = {name: fact["sha256"] for name, fact in json.loads(raw)["files"].items()}
            except (ValueError, KeyError, TypeError, AttributeError):
                self.warn(f"{stage}: the record in {self.url} cannot be read; it is built again")
                return False
            if not all(is_file_name(name) and _is_hash(digest) for name, digest in files.items()):
                self.warn(f"{stage}: the record in {self.url} names files that are none; it is built again")
                return False
            for name, digest in files.items():
                self._fs.get_file(f"{place}/{digest}", str(folder / name))
            (folder / RECORD).write_bytes(raw)
            return True
        return False

    def push(self, stage: str, key: str, folder: Path, files: dict[str, dict]) -> None:
        """Store a finished entry, its record last."""
        if self._down:
            return
        with self._reached():
            place = f"{self._root}/{stage}/{key}"
            self._fs.makedirs(place, exist_ok=True)
            for name, fact in files.items():
                self._put(folder / name, f"{place}/{fact['sha256']}")
            self._put(folder / RECORD, f"{place}/{RECORD}")

    def _put(self, source: Path, target: str) -> None:
        """Upload under a name of our own and move: not every storage shows a file only when it is whole."""
        temporary = f"{target}.{uuid.uuid4().hex[:8]}.tmp"
        self._fs.put_file(str(source), temporary)
        self._fs.mv(temporary, target)

    @contextlib.contextmanager
    def _reached(self):
        """No failure of the storage ends a build."""
        try:
            yield
        except Exception as error:  # each kind of storage has errors of its own
            self._down = True
            self.warn(f"the cache {self.url} fails ({_first_line(error)}); the build goes on without it")


def is_file_name(name: str) -> bool:
    """Whether a name from a record is that of a file in its folder, and no path to anywhere else."""
    return bool(name) and name not in (".", "..") and not set(name) & {"/", "\\", "\0"}


def _is_hash(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and not set(text) - set("0123456789abcdef")


def _package(url: str) -> str:
    return {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}.get(
        url.split("://")[0], "fsspec[full]"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _unusable(url: str, found: str, hint: str) -> UsageError:
    return UsageError(
        f"the cache {url} cannot be used",
        found=found,
        expected="a path, or an address that fsspec knows",
        next=hint,
    )
