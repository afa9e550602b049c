"""One line a stage on standard error: what it did, how long it took, what was reused.

On a terminal the running stage has a spinner and a clock (rich); elsewhere each stage is one plain line when it is
done. ``quiet`` leaves only warnings. Standard output is kept for results.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator


class Progress:
    """Shows the stages of a run. ``stage(name)`` yields a function that changes what the running stage says."""

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self._console = None
        self._lock = threading.Lock()
        self._running: dict[Stage, str | None] = {}
        if not quiet and sys.stderr.isatty():
            from rich.console import Console

            self._console = Console(stderr=True, highlight=False)
            self._status = self._console.status("")

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time a stage, one of perhaps several at a time; its line is printed when the block ends without an error."""
        stage = Stage(name)
        if self._console is not None:
            stage.show = lambda text: self._spin(stage, text)
            self._spin(stage, "")
        try:
            yield stage
        finally:
            if self._console is not None:
                self._spin(stage, None)
        if not self.quiet:
            self._line(stage)

    def _spin(self, stage: Stage, text: str | None) -> None:
        """Show what the running stages say; ``None`` ends this one."""
        with self._lock:
            self._running[stage] = text
            if text is None:
                del self._running[stage]
            if not self._running:
                self._status.stop()
                return
            self._status.update("   ".join(f"{s.name} {_escape(said)}".strip() for s, said in self._running.items()))
            self._status.start()

    def _line(self, stage: Stage) -> None:
        seconds = f"{time.perf_counter() - stage.started:6.1f} s"
        label = "reused" if stage.reused else "done"
        if self._console is None:
            print(f"{stage.name:<14} {seconds}  {label:<6}  {stage.summary}", file=sys.stderr, flush=True)
        else:
            colour = "dim" if stage.reused else "green"
            self._console.print(
                f"{stage.name:<14} {seconds}  [{colour}]{label:<6}[/]  {_escape(stage.summary)}", soft_wrap=True
            )

    def warn(self, text: str) -> None:
        """A sentence that is shown even when quiet."""
        print(f"warning: {text}", file=sys.stderr, flush=True)

    def banner(self, text: str) -> None:
        """What must not be missed, in a frame of its own."""
        lines = text.splitlines()
        width = max(map(len, lines)) + 4
        edge = "!" * width
        body = "\n".join([edge, *(f"! {line:<{width - 4}} !" for line in lines), edge])
        if self._console is None:
            print(body, file=sys.stderr, flush=True)
        else:
            self._console.print(f"[bold yellow]{_escape(body)}[/]")


class Stage:
    """The running stage, as the pipeline fills it in."""

    def __init__(self, name: str):
        self.name = name
        self.started = time.perf_counter()
        self.summary = ""
        self.reused = False
        self.show = lambda text: None


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
