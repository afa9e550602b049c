"""``explain``: the rewrites, one by one."""

from __future__ import annotations

from exporter import asking

HELP = "what each rewrite did to the graph and to the kernels"
arguments = asking.add_request


def run(arguments) -> int:
    from exporter import explain, tables
    from exporter.progress import Progress

    found = explain.explain(asking.request(arguments), Progress(arguments.quiet))
    return asking.show(arguments, found, lambda: tables.explained(found))
