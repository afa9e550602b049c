"""Ctrl-C and SIGTERM end a command where Python can unwind, never inside an import.

Torch's and onnxruntime's libraries call Python while they are being loaded, from C++ that ends the process with
``abort`` (-6) when an exception comes back: no clean-up runs, temporary files stay. A signal that meets an import is
therefore delivered again every ``AGAIN`` seconds until the import is over.
"""

from __future__ import annotations

import signal

AGAIN = 0.02  # seconds


def install() -> None:
    """Let SIGTERM do what Ctrl-C does, and both wait for imports. An ignored SIGINT (a background job's) stays so."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGALRM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number, frame):
    if _importing(frame):
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
        return
    raise KeyboardInterrupt  # the clean-up of Ctrl-C: the compiler's process ends, temporary files go


def _importing(frame) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
