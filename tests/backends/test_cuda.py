"""The order of events of a query on a GPU, with stand-ins for CUDA."""

import pytest

from exporter.backends import cuda


class Gpu:
    """A stream that takes its time: enqueueing moves the host's clock, work the GPU's."""

    def __init__(self):
        self.host, self.gpu, self.log = 0.0, 0.0, []

    def work(self, name, seconds):
        def run():
            self.log.append(name)
            self.host += 1e-6
            self.gpu = max(self.gpu, self.host) + seconds

        return run

    def event(self):
        return Event(self)


class Event:
    def __init__(self, gpu):
        self.gpu, self.at = gpu, None

    def record(self):
        self.at = self.gpu.gpu

    def query(self):
        self.gpu.host += 1e-6
        self.gpu.log.append("asked")
        return self.gpu.host >= self.at

    def synchronize(self):
        self.gpu.log.append("slept")
        self.gpu.host = max(self.gpu.host, self.at)

    def elapsed_time(self, later):  # milliseconds, as CUDA's
        return 1e3 * (later.at - self.at)


def query(gpu, spin):
    steps = (gpu.work("h2d", 1e-4), gpu.work("run", 1e-3), gpu.work("d2h", 2e-4))
    return cuda.staged(*steps, [gpu.event() for _ in range(4)], lambda work: work(), spin, clock=lambda: gpu.host)


@pytest.mark.parametrize("spin", [True, False])
def test_transfers_computation_and_the_hosts_share_are_apart(spin):
    gpu = Gpu()
    run = query(gpu, spin)
    run()  # the GPU's clock starts with the host's
    found = run()
    assert [step for step in gpu.log if step not in ("asked", "slept")][-3:] == ["h2d", "run", "d2h"]
    assert found["gpu"] == pytest.approx(1e-3, rel=0.01) and found["d2h"] == pytest.approx(2e-4, rel=0.01)
    assert found["latency"] == pytest.approx(found["h2d"] + found["gpu"] + found["d2h"])
    assert found["enqueue"] == pytest.approx(3e-6) and found["host"] >= found["gpu"]


def test_spinning_asks_and_waiting_sleeps():
    spinning, sleeping = Gpu(), Gpu()
    query(spinning, True)(), query(sleeping, False)()
    assert "asked" in spinning.log and "slept" not in spinning.log
    assert "slept" in sleeping.log and "asked" not in sleeping.log
