"""``clean-cache``: the cached stages go, bundles stay."""

from __future__ import annotations

import argparse

from exporter import asking

HELP = "delete the cached stages of OUT; bundles stay"


def arguments(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("--out", default="build", type=asking.OUT, help="where bundles and the cache are (default: build)")
    add("--cache", help="the cache's folder (default: OUT/.cache)")
    add("--json", action="store_true", help="print JSON")


def run(arguments) -> int:
    from exporter import eviction, request
    from exporter.errors import UsageError
    from exporter.remote import is_url
    from exporter.store import Store

    root = request.parse_out(arguments.out) / ".cache"
    if arguments.cache:
        if is_url(arguments.cache):
            raise UsageError(
                "a cache behind an address is not cleaned from here: other machines use it",
                found=arguments.cache,
                expected="a folder",
                next="a lifecycle rule of the storage, or clean-cache without CACHE for this machine's copies",
            )
        root = request.parse_out(arguments.cache)
    gone = []
    if root.is_dir():
        store = Store(root)
        store.join()
        with store.alone() as alone:
            if not alone:
                raise UsageError(
                    f"the cache {root} is in use",
                    found="another build that is running",
                    expected="no build in this cache",
                    next="wait for it to end, then make clean-cache",
                )
            gone = eviction.clear(root)
    size = sum(kept.bytes for kept in gone)
    data = {"cache": str(root), "entries": len(gone), "bytes": size}
    return asking.show(arguments, data, lambda: print(f"{root}: {len(gone)} entries, {size / 1e9:.1f} GB"))
