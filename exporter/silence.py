"""A library's own talk is kept off standard error while one thread works; what other threads say goes through."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
import warnings
from collections.abc import Iterator


class _Deaf(io.TextIOBase):
    """Standard error without what one thread writes to it."""

    def __init__(self, stream, thread: int):
        self.stream = stream
        self.thread = thread

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self.thread else self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()


@contextlib.contextmanager
def silence(*loggers: str) -> Iterator[None]:
    """Keep these loggers, all warnings and this thread's writes off standard error."""
    found = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in found]
    try:
        for logger in found:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings(), contextlib.redirect_stderr(_Deaf(sys.stderr, threading.get_ident())):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(found, levels, strict=True):
            logger.setLevel(level)
