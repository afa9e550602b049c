"""``tune``: the compiler chooses attention's form."""

from __future__ import annotations

from exporter import asking

HELP = "build every form of attention, score what the compiler emits, keep the winner"
arguments = asking.add_request


def run(arguments) -> int:
    from exporter import tables, tune
    from exporter.progress import Progress

    asked = asking.request(arguments)
    row = tune.tune(asked, Progress(arguments.quiet))
    tune.record(asked, row)
    return asking.show(arguments, row, lambda: tables.tuned(asked, row))
