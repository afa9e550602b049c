"""``parity``: a build, seen by its ladder."""

from __future__ import annotations

from exporter import asking

HELP = "the parity ladder of a build, rung by rung"
arguments = asking.add_request


def run(arguments) -> int:
    from exporter import tables

    made = asking.build(arguments)
    return asking.finish(arguments, made, made.manifest["parity"], lambda: tables.parity(made.manifest))
