"""A server that is kept up: one that died, or one of whose workers died, is started again.

Triton's python backend does not bring back a worker that was killed: every request to its model fails from then on
("Stub process is not healthy"), while the server says that it is ready. So the processes are watched, not its words.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from exporter import serving
from exporter.errors import ExporterError, UsageError

LOOK_SECONDS = 0.25
GRACE_SECONDS = 1.0
"""A worker that the server ends itself is a dead child for a moment; one that is longer has crashed."""

ATTEMPTS = 5
"""Starts in a row that may fail before it is given up."""


@dataclass
class Kept:
    """A server, why it was started again, in order, and how often it was ready after that; ``failed`` when given up."""

    server: serving.Server
    start: Callable[[], serving.Server]
    note: Callable[[str], None]
    restarts: list[str] = field(default_factory=list)
    recovered: int = 0
    failed: ExporterError | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    _suspects: dict[int, float] = field(default_factory=dict)

    def watch(self) -> None:
        """Until ``ended``: look, and start again what is down."""
        while not self.ended.wait(LOOK_SECONDS):
            if why := self._down():
                self.restarts.append(why)
                self.note(f"{why}: starting the server again")
                self._again()

    def _down(self) -> str:
        code = self.server.process.poll()
        if code is not None:
            return f"the server ended ({f'signal {-code}' if code < 0 else f'exit code {code}'})"
        now = time.monotonic()
        self._suspects = {pid: self._suspects.get(pid, now) for pid in self.server.crashed_workers()}
        crashed = [pid for pid, since in self._suspects.items() if now - since > GRACE_SECONDS]
        return f"worker {crashed[0]} died" if crashed else ""

    def _again(self) -> None:
        self._suspects = {}
        for attempt in range(ATTEMPTS):
            self.server.stop(GRACE_SECONDS)  # with a dead worker it does not end by itself
            if self.ended.wait(attempt * LOOK_SECONDS):
                return
            try:
                self.server = self.start()
                self.server.wait()
                self.failed = None
                self.recovered += 1
                return
            except UsageError as error:
                self.failed = error
        self.ended.set()

    def join(self) -> None:
        """Return when it was given up."""
        self.ended.wait()


@contextlib.contextmanager
def kept(
    repository: Path, http: int = 8000, grpc: int = 8001, *, control: str = "none", log: Path | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Kept]:  # fmt: skip
    """A server that is ready, and ready again soon after it or a worker of it died; stopped at the end."""

    def start() -> serving.Server:
        return serving.launch(repository, http, grpc, control, log or serving.log_file())

    made = Kept(start(), start, note)
    thread = threading.Thread(target=made.watch, daemon=True)
    try:
        made.server.wait()
        thread.start()
        yield made
    finally:
        made.ended.set()
        if thread.is_alive():
            thread.join()
        made.server.stop()
