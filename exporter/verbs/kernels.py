"""``kernels``: a build, seen by what the compiler emitted."""

from __future__ import annotations

import json

from exporter import asking

HELP = "the kernels that the compiler emitted, biggest first"
arguments = asking.add_request


def run(arguments) -> int:
    from exporter import tables

    made = asking.build(arguments)
    data = json.loads((made.folder / "kernels.json").read_text())
    return asking.finish(arguments, made, data, lambda: tables.kernels(data))
