"""This process's memory, as the system counts it (Linux: proc(5); elsewhere getrusage)."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path


def resident_bytes() -> int:
    """Bytes of memory that are in RAM now; the peak where the system does not tell."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """The most bytes in RAM at once since this process began to run its program."""
    return _status("VmHWM")


@contextlib.contextmanager
def watched(every: float = 0.05) -> Iterator[Callable[[], int]]:
    """While the block runs, look every so many seconds; the function yielded gives the most resident bytes seen."""
    seen, over = [resident_bytes()], threading.Event()

    def watch() -> None:
        while not over.wait(every):
            seen[0] = max(seen[0], resident_bytes())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: max(seen[0], resident_bytes())
    finally:
        over.set()
        thread.join()


def _status(field: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def available_bytes() -> int:
    """What the system can still give without swapping; 0 where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), 0)


def exhausted(error: BaseException) -> bool:
    """Whether an error is one of memory: Python's own, or what torch and ONNX Runtime say of a failed allocation."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in said for words in ("can't allocate memory", "cannot allocate memory", "bad_alloc", "bad allocation",
                                    "failed to allocate memory")
    )  # fmt: skip


def give_back() -> None:
    """Return freed memory to the system: glibc keeps it, and one stage's gigabytes would add to the next one's."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
