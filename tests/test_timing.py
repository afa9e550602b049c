import pytest

from exporter import timing
from exporter.timing import Plan


class World:
    """A clock that only queries and pauses move."""

    def __init__(self):
        self.now, self.calls, self.pauses = 0.0, [], []

    def query(self, name, seconds):
        def run():
            self.calls.append(name)
            self.now += seconds
            return {"latency": seconds}

        return run

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def run(self, plan, **seconds):
        queries = {name: self.query(name, s) for name, s in seconds.items()}
        return timing.in_turns(queries, plan, clock=lambda: self.now, sleep=self.sleep)


def test_warm_up_lasts_its_time_and_is_not_counted():
    world = World()
    found = world.run(Plan(warm_up_ms=200, duration_s=0, iterations=10), a=0.05)
    assert len(found["a"].latencies) == 10 and len(world.calls) == 10 + 4


def test_one_query_warms_up_at_least():
    world = World()
    world.run(Plan(warm_up_ms=0, duration_s=0, iterations=1), a=0.05)
    assert world.calls == ["a", "a"]


@pytest.mark.parametrize("plan, queries", [
    (Plan(0, 3, 10), 30),  # three seconds of 0.1 s
    (Plan(0, 0.5, 10), 10),  # ten queries take longer than the duration
])  # fmt: skip
def test_at_least_so_many_and_at_least_so_long(plan, queries):
    found = World().run(plan, a=0.1)
    assert len(found["a"].latencies) == pytest.approx(queries, abs=1)
    assert found["a"].seconds == pytest.approx(0.1 * len(found["a"].latencies))


def test_contenders_take_turns_and_the_order_turns():
    world = World()
    found = world.run(Plan(0, 0, 6), a=0.1, b=0.2, c=0.3)
    rounds = ["".join(world.calls[3:][i : i + 3]) for i in range(0, 18, 3)]
    assert rounds == ["abc", "bca", "cab"] * 2
    assert [len(f.latencies) for f in found.values()] == [6, 6, 6]
    assert found["c"].seconds == pytest.approx(6 * 0.3)  # pauses are nobody's time


def test_only_contenders_among_others_wait_for_the_last_ones_threads():
    alone, two = World(), World()
    alone.run(Plan(0, 0, 3), a=0.1)
    two.run(Plan(0, 0, 3), a=0.1, b=0.1)
    assert alone.pauses == [] and two.pauses == [timing.IDLE_SECONDS] * 6


def test_the_defaults_are_trtexecs():
    assert Plan().as_dict() == {"warm_up_ms": 200, "duration_s": 3, "iterations": 10}


def test_a_query_measures_the_wall_time():
    import time

    assert 0.01 <= timing.query(lambda: time.sleep(0.01))()["latency"] < 0.2
