"""``engine``: the main job."""

from __future__ import annotations

from exporter import asking

HELP = "build an engine, prove its parity, leave a bundle"
arguments = asking.add_request


def run(arguments) -> int:
    from exporter import tables

    made = asking.build(arguments)
    return asking.finish(arguments, made, made.manifest, lambda: tables.verdict(made.manifest, made.folder))
