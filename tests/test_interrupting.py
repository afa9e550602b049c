import importlib
import os
import signal
import sys
import threading
import time

import pytest

from exporter import interrupting


@pytest.fixture
def installed():
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    interrupting.install()
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for name, handler in before.items():
        signal.signal(name, handler)


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_import_that_it_meets(name, installed, tmp_path, monkeypatch):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))  # pytest itself runs as a background job
    (tmp_path / "slow_to_load.py").write_text(
        "import time\nend = time.monotonic() + 0.5\nwhile time.monotonic() < end:\n    pass\nloaded = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    threading.Timer(0.1, os.kill, (os.getpid(), name)).start()
    with pytest.raises(KeyboardInterrupt):
        importlib.import_module("slow_to_load")
        time.sleep(5)
    assert sys.modules.pop("slow_to_load").loaded


def test_elsewhere_a_signal_interrupts_at_once(installed):
    start = time.monotonic()
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(KeyboardInterrupt):
        time.sleep(5)
    assert time.monotonic() - start < 2


def test_an_ignored_interrupt_stays_ignored():
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        interrupting.install()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
