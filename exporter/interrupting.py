"""Ctrl-C and SIGTERM end a command where Python can unwind, not inside an import.

Torch's and onnxruntime's libraries call Python while they are being loaded, from C++ that ends the process with
``abort`` (-6) when an exception comes back: no clean-up runs, temporary files stay. A signal that meets an import is
therefore delivered again every ``AGAIN`` seconds until the import is over, or at a second signal, or after
``PATIENCE`` seconds: an import may also be a user's recipe, which does what it likes.
"""

from __future__ import annotations

import signal
import time

AGAIN, PATIENCE = 0.02, 5.0
"""Seconds."""


class _Waiting:
    """When the signal came that waits for an import; None where there is none."""

    since: float | None = None


def install() -> None:
    """Let SIGTERM do what Ctrl-C does, and both wait for imports. An ignored SIGINT (a background job's) stays so."""
    _Waiting.since = None
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGALRM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def pending() -> bool:
    """Whether a signal still waits; it is not delivered any more."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    return _Waiting.since is not None


def _interrupt(number, frame):
    now, again = time.monotonic(), number == signal.SIGALRM
    if again and _Waiting.since is None:
        return
    patient = _Waiting.since is None or (again and now - _Waiting.since < PATIENCE)
    if patient and _importing(frame):
        _Waiting.since = now if _Waiting.since is None else _Waiting.since
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
        return
    signal.setitimer(signal.ITIMER_REAL, 0)
    _Waiting.since = None
    raise KeyboardInterrupt  # the clean-up of Ctrl-C: the compiler's process ends, temporary files go


def _importing(frame) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
