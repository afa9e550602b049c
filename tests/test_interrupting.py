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


def test_an_import_that_does_not_end_is_interrupted_by_a_second_signal_or_after_a_while(
    installed, tmp_path, monkeypatch
):
    (tmp_path / "hanging.py").write_text("import time\nfor _ in range(200):\n    time.sleep(0.05)\n")
    monkeypatch.syspath_prepend(tmp_path)
    for patience, signals in ((5.0, (0.1, 0.3)), (0.2, (0.1,))):
        monkeypatch.setattr(interrupting, "PATIENCE", patience)
        for seconds in signals:
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM)).start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            importlib.import_module("hanging")
        assert time.monotonic() - start < 3
        time.sleep(0.2)  # nothing comes again


def test_a_signal_that_an_import_outlived_is_still_told(installed, tmp_path, monkeypatch):
    (tmp_path / "signalling.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("signalling")
    assert interrupting.pending()
    time.sleep(0.1)


def test_an_ignored_interrupt_stays_ignored():
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        interrupting.install()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
