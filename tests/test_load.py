"""benchmarks/load.py: what a closed loop of clients counts."""

import importlib.util
import sys
import time
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def load():
    spec = importlib.util.spec_from_file_location("bench_load", Path(__file__).parents[1] / "benchmarks" / "load.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_every_client_asks_often_and_long_enough_and_its_first_answer_does_not_count(load):
    asked = [0, 0]

    def client(i, slow):
        def ask():
            asked[i] += 1
            time.sleep(slow if asked[i] == 1 else 0.01)

        return ask

    found = load.closed([client(0, 0.2), client(1, 0.01)], seconds=0.1, requests=5)
    assert min(asked) >= 6 and len(found.latencies) == sum(asked) - 2
    assert max(found.latencies) < 0.15  # of the first answer of the slow one there is nothing
    assert 20 < found.per_second < 200


def test_the_error_of_a_client_is_raised(load):
    def fails():
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer"):
        load.closed([fails, lambda: None], 0, 1)
