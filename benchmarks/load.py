"""A closed loop: so many clients at once, each of which sends its next request when it has the last answer."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

Ask = Callable[[], object]


@dataclass(frozen=True)
class Load:
    """``latencies`` in seconds of every request but each client's first, ``per_second`` requests of all clients."""

    latencies: list[float]
    per_second: float


def closed(clients: list[Ask], seconds: float, requests: int) -> Load:
    """Every client at work for at least ``seconds`` and ``requests`` requests behind its first one.

    A client's rate is counted from its first answer to its last, so that neither the start nor the batches in which
    answers come back shift the sum.
    """
    stamps: list[list[float]] = [[] for _ in clients]
    failed: list[BaseException] = []
    end = time.perf_counter() + seconds

    def work(ask: Ask, mine: list[float]) -> None:
        try:
            while len(mine) <= requests or time.perf_counter() < end:
                ask()
                mine.append(time.perf_counter())
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(clients, stamps, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    rates = [(len(mine) - 1) / (mine[-1] - mine[0]) for mine in stamps]
    return Load([b - a for mine in stamps for a, b in itertools.pairwise(mine)], sum(rates))
