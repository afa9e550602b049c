"""A few of the random networks that ``make bench-equivalence`` tries by the thousand, and those that ever failed."""

import collections

import equivalence
import numpy as np
import onnx
import pytest
from graphs import feed, run
from networks import network

FAILED = (6, 34, 48)
"""Seeds whose network was once wrong, or left an invalid graph, on its way through the rewrites and precisions."""

FEW = range(20_000, 20_008)


@pytest.fixture(scope="module")
def seen():
    return [equivalence.examine(seed) for seed in FEW]


def test_random_networks_stay_what_they_are(seen):
    assert [(s.seed, s.faults) for s in seen if s.faults] == []


def test_the_rewrites_that_matter_found_something_in_them(seen):
    matches = collections.Counter()
    for one in seen:
        matches.update(one.matches)
    for name in ("attention_form", "cancel_permutations", "fold_attention_biases", "fuse_layer_normalization"):
        assert matches[name] > 0, name
    assert {p for one in seen for p in one.errors} == {"fp32", "fp16", "bf16", "int8", "int8-bf16", "fp8"}


@pytest.mark.parametrize("seed", FAILED)
def test_networks_that_once_failed_do_not(seed):
    assert equivalence.examine(seed).faults == []


def test_a_network_is_valid_and_its_seed_decides_it():
    for seed in range(20):
        model = network(seed)
        onnx.checker.check_model(model, full_check=True)
        assert model.SerializeToString() == network(seed).SerializeToString()
        assert all(np.isfinite(value).all() for value in run(model, feed(model, 3)).values())


@pytest.mark.parametrize("fault, says", [
    (lambda values: values * 1.0001, "fp32 moved by"),
    (lambda values: values[:-1], "was float32"),
    (lambda values: values[::-1].copy(), "fp32 moved by"),
])  # fmt: skip
def test_a_rewrite_that_changes_a_result_is_seen(fault, says, monkeypatch):
    calls = []

    def spoilt(model, feeds, level="DISABLE_ALL"):
        calls.append(model)
        answers = run(model, feeds, level)
        return {name: fault(value) for name, value in answers.items()} if len(calls) == 2 else answers

    monkeypatch.setattr(equivalence, "run", spoilt)
    assert any(says in text for text in equivalence.examine(FEW[0]).faults)


def test_an_error_of_a_rewrite_is_a_fault(monkeypatch):
    monkeypatch.setattr(equivalence, "network", lambda seed: None)
    assert equivalence.examine(3).faults
