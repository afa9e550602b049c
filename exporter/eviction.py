"""The cache's size: the least recently used entries go where it is over its limit; ``make clean-cache`` takes them all.

An entry that was used within the last hour stays: another process may be in the middle of a build that reads it.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from exporter.errors import UsageError
from exporter.store import ENTRY

LIMIT = 50 * 10**9
"""Bytes that the cache may hold by default."""

RECENT_SECONDS = 3600
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Kept:
    """An entry on disk: its folder, its bytes, when it was last used (seconds since the epoch)."""

    folder: Path
    bytes: int
    used: float


def parse_limit(text: str | None) -> int:
    """``20G`` -> bytes; None is the default."""
    if text is None:
        return LIMIT
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if not found:
        raise UsageError("CACHE_LIMIT cannot be read", found=text, expected="bytes, or 20G", next="CACHE_LIMIT=50G")
    return int(float(found[1]) * UNITS[found[2]])


def entries(root: Path) -> Iterator[Kept]:
    """Every entry of a cache."""
    for record in root.glob(f"*/*/{ENTRY}"):
        try:
            files = [path.stat() for path in record.parent.iterdir()]
            yield Kept(record.parent, sum(f.st_size for f in files), record.stat().st_mtime)
        except OSError:  # another process took it away
            continue


def evict(root: Path, limit: int, used: Collection[Path] = (), recent: float = RECENT_SECONDS) -> list[Kept]:
    """Delete the least recently used entries until the cache holds at most ``limit`` bytes; those that went.

    ``used`` are folders that stay: those of the run that asks.
    """
    found = sorted(entries(root), key=lambda kept: kept.used)
    over = sum(kept.bytes for kept in found) - limit
    gone = []
    for kept in found:
        if over <= 0 or time.time() - kept.used < recent:
            break
        if kept.folder in used:
            continue
        _remove(kept.folder)
        over -= kept.bytes
        gone.append(kept)
    return gone


def clear(root: Path) -> list[Kept]:
    """Delete every entry; bundles stay as they are."""
    found = list(entries(root))
    for kept in found:
        _remove(kept.folder)
    return found


def _remove(folder: Path) -> None:
    """Out of sight in one step, then away: no process finds half an entry."""
    aside = folder.with_name(f".{folder.name}.gone")
    try:
        os.rename(folder, aside)
    except OSError:
        return
    shutil.rmtree(aside, ignore_errors=True)
