"""``why``: what a build would reuse, what it would make again, and because of what."""

from __future__ import annotations

from exporter import asking

HELP = "which stages a build would reuse, which it would make again, and what changed"
arguments = asking.add_request


def run(arguments) -> int:
    import sys

    from exporter import why, why_report

    rows = why.why(asking.request(arguments), lambda text: print(f"warning: {text}", file=sys.stderr))
    return asking.show(arguments, rows, lambda: why_report.report(rows))
