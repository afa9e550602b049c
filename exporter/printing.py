"""Tables on standard output: as wide as the terminal, plain text where there is none."""

from __future__ import annotations

import io
import sys


def show(table) -> None:
    """A table as wide as the terminal; 160 columns, without colours and trailing blanks, where there is none."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console(highlight=False).print(table)
        return
    console = Console(width=160, highlight=False, file=io.StringIO())
    console.print(table)
    print("\n".join(line.rstrip() for line in console.file.getvalue().rstrip().splitlines()))


def ruled(*columns: str, title: str | None = None):
    """A table; a column whose name starts with '>' is right-aligned."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for name in columns:
        made.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left")
    return made
