import logging
import sys
import threading
import warnings

import pytest

from exporter.silence import silence


def test_this_threads_talk_is_kept_back_and_no_other_threads(capsys):
    def other():
        print("from another thread", file=sys.stderr)

    with silence("noisy"):
        print("page of a graph", file=sys.stderr)
        warnings.warn("a warning", stacklevel=1)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    print("afterwards", file=sys.stderr)
    assert capsys.readouterr().err == "from another thread\nafterwards\n"


def test_loggers_speak_again_also_after_an_error(caplog):
    logger = logging.getLogger("noisy")
    before = logger.level
    with pytest.raises(ValueError), silence("noisy"):
        logger.error("kept back")
        raise ValueError
    logger.error("heard")
    assert [r.message for r in caplog.records] == ["heard"] and logger.level == before
