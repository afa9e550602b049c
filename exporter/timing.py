"""Queries in turns: warm-up by time, then at least so many of each and at least so long, as trtexec runs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

Query = Callable[[], Mapping[str, float]]
"""One query; what it took in seconds by quantity (``latency`` is always among them)."""

IDLE_SECONDS = 0.005
"""Pause before a query where several contenders take turns: threads of the last one have stopped spinning by then."""


@dataclass(frozen=True)
class Plan:
    """Defaults are trtexec's: ``--warmUp=200 --duration=3 --iterations=10``. Duration counts for each contender."""

    warm_up_ms: float = 200
    duration_s: float = 3
    iterations: int = 10

    def as_dict(self) -> dict:
        return asdict(self)


@dataclass
class Timed:
    """A contender's queries by quantity, in the order they ran, and the seconds that they took together."""

    queries: dict[str, list[float]]
    seconds: float = 0.0

    @property
    def latencies(self) -> list[float]:
        return self.queries["latency"]


def query(run: Callable[[], object]) -> Query:
    """A query whose only quantity is the host's wall time of ``run``."""

    def timed() -> Mapping[str, float]:
        started = time.perf_counter()
        run()
        return {"latency": time.perf_counter() - started}

    return timed


def in_turns(
    queries: Mapping[str, Query],
    plan: Plan,
    note: Callable[[str], None] = lambda text: None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Timed]:
    """Every contender once a round, so that what disturbs one disturbs its neighbours, too.

    The order turns from round to round: nobody always runs behind the same one. A contender alone runs without pauses.
    """
    for name, run in queries.items():
        note(f"warming up {name}")
        _warm_up(run, plan, clock)
    found = {name: Timed({}) for name in queries}
    names, rounds, started = list(queries), 0, clock()
    idle = IDLE_SECONDS if len(names) > 1 else 0.0
    while rounds < plan.iterations or clock() - started < plan.duration_s * len(names):
        shift = rounds % len(names)
        for name in names[shift:] + names[:shift]:
            if idle:
                sleep(idle)
            began = clock()
            for quantity, seconds in queries[name]().items():
                found[name].queries.setdefault(quantity, []).append(seconds)
            found[name].seconds += clock() - began
        rounds += 1
        note(f"round {rounds}")
    return found


def _warm_up(run: Query, plan: Plan, clock: Callable[[], float]) -> None:
    started = clock()
    run()
    while clock() - started < plan.warm_up_ms / 1e3:
        run()
