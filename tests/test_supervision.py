"""What makes a supervised server start again; the real one is in test_triton.py."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exporter import serving, supervision
from exporter.errors import UsageError


class Fake:
    """A server whose processes are told, not run."""

    def __init__(self, fails=False):
        self.process = type("Process", (), {"poll": lambda _: self.code})()
        self.code, self.crashed, self.stopped, self.fails = None, [], 0, fails

    def crashed_workers(self):
        return self.crashed

    def stop(self, seconds=0):
        self.stopped += 1

    def wait(self):
        if self.fails:
            raise UsageError("the server does not start")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(supervision, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(supervision, "GRACE_SECONDS", 0.05)


def test_a_worker_that_is_reaped_at_once_is_no_reason_to_start_again(quick):
    made = supervision.Kept(Fake(), Fake, lambda text: None)
    made.server.crashed = [7]
    assert made._down() == ""
    made.server.crashed = []
    assert made._down() == ""
    made.server.crashed = [7]
    made.ended.wait(0.06)
    assert made._down() == ""  # seen again for the first time
    made.ended.wait(0.06)
    assert made._down() == "worker 7 died"


def test_a_server_that_does_not_come_back_is_given_up_with_its_reason(quick):
    first, starts = Fake(), []
    first.code = -9

    def start():
        starts.append(Fake(fails=True))
        return starts[-1]

    made = supervision.Kept(first, start, lambda text: None)
    made.watch()
    assert made.ended.is_set() and made.failed.what == "the server does not start"
    assert len(starts) == supervision.ATTEMPTS and first.stopped == 1 and made.recovered == 0
    assert made.restarts == ["the server ended (signal 9)"]


def test_a_port_that_is_taken_or_is_none_is_an_error_before_anything_starts():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken, free = other.getsockname()[1], serving.free_ports(1)[0]
        for http, grpc, found in (
            (taken, free, f"HTTP={taken}: Address already in use"),
            (free, taken, f"GRPC={taken}: Address already in use"),
            (free, free, f"HTTP={free} and GRPC={free}"),
            (0, free, "HTTP=0"),
            (free, 99999, "GRPC=99999"),
        ):
            with pytest.raises(UsageError) as caught:
                serving.check_ports(http, grpc)
            assert caught.value.found == found and "HTTP=" in caught.value.next
        serving.check_ports(free, serving.free_ports(1)[0])


def test_a_server_ends_when_its_supervisor_was_killed(tmp_path):
    victim = (
        "import subprocess, sys, time\n"
        "from exporter.serving import ends_with_its_parent\n"
        "child = subprocess.Popen(['sleep', '60'], preexec_fn=ends_with_its_parent())\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", victim], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("the child lives on")
