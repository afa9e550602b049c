"""``clean-cache``: the cached stages go, bundles stay."""

from __future__ import annotations

import argparse

from exporter import asking

HELP = "delete the cached stages of OUT; bundles stay"


def arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--out", default="build", help="where bundles and the cache are (default: build)")
    verb.add_argument("--json", action="store_true", help="print JSON")


def run(arguments) -> int:
    from exporter import eviction, request

    root = request.parse_out(arguments.out) / ".cache"
    gone = eviction.clear(root)
    size = sum(kept.bytes for kept in gone)
    data = {"cache": str(root), "entries": len(gone), "bytes": size}
    return asking.show(arguments, data, lambda: print(f"{root}: {len(gone)} entries, {size / 1e9:.1f} GB"))
