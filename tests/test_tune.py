"""Every form of a two-block ViT through the real compiler."""

import json
from dataclasses import replace

import pytest
from models import VIT

from exporter import choice, registry, tune
from exporter.errors import CheckFailed, UsageError
from exporter.progress import Progress
from exporter.request import FORMS, VARIANTS
from exporter.types import Batch, Request


def request(out, recipe=VIT, **fields):
    fields = {"batch": Batch(2, 2, 2), "targets": ("sm80",), "backend": "tensorrt-rtx"} | fields
    return Request(recipe, registry.precision("fp16"), weights="random", io="fp32", out=out, **fields)


@pytest.fixture(scope="module")
def row(tmp_path_factory):
    return tune.tune(request(tmp_path_factory.mktemp("out")), Progress(quiet=True))


def test_every_form_is_compiled_and_the_cheapest_wins(row):
    forms = {name: c for name, c in row["candidates"].items() if "+" not in name}
    assert set(forms) == set(FORMS)
    assert all(c["fused"] == c["due"] == 2 for c in row["candidates"].values() if "refused" not in c)
    cheapest = min(forms, key=lambda form: forms[form]["total_us"])
    assert [name for name in row["candidates"] if "+" in name] == [f"{cheapest}+{variant}" for variant in VARIANTS]
    assert row["candidates"][f"{cheapest}+slice_permutations"]["refused"] == "slice_permutations finds nothing here"
    assert row["candidates"][f"{cheapest}+pad_keys"]["kernels"] >= forms[cheapest]["kernels"]
    assert row["winner"] == cheapest != "windows"
    assert row["candidates"][cheapest]["kernels"] < row["candidates"]["windows"]["kernels"]


def test_the_winner_is_what_the_next_build_takes(row, tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "TABLE", tmp_path / "tuned.json")
    asked = request(tmp_path)
    assert choice.choose(asked).why == "by rule"
    tune.record(asked, row)
    assert choice.choose(asked) == choice.Choice(row["winner"], "tuned for this model", row["compiler"])
    assert not choice.choose(asked).stale("tensorrt-rtx")
    older = json.loads(choice.TABLE.read_text())
    older[next(iter(older))]["compiler"] = "tensorrt-rtx 1.0"
    choice.TABLE.write_text(json.dumps(older))
    assert "the table is stale" in choice.choose(asked).stale("tensorrt-rtx")


def test_an_unfused_form_loses_to_a_dearer_one_that_fuses():
    fused = {"due": 2, "fused": 2, "total_us": 900.0}
    assert tune.rank(fused) < tune.rank({"due": 2, "fused": 1, "total_us": 100.0})


def test_among_equals_the_first_wins_and_what_is_refused_never():
    same = {"due": 2, "fused": 2, "total_us": 900.0}
    assert tune.winner({"a": {"refused": "no"}, "b": same, "b+c": dict(same)}) == "b"
    assert tune.winner({"b": same, "b+c": same | {"total_us": 899.9}}) == "b+c"


def test_a_form_that_fails_its_comparison_is_refused_and_loses_no_other(monkeypatch, tmp_path):
    def fail(*args, **named):
        raise CheckFailed("the rewrite pad_keys changed what the model computes", found="logits moved by 0.3")

    monkeypatch.setattr(tune.typed, "make", fail)
    row = tune._candidate(None, (), request(tmp_path), "windows+pad_keys", print)
    assert row == {"refused": "the rewrite pad_keys changed what the model computes: logits moved by 0.3"}
    with pytest.raises(CheckFailed, match="no form") as told:
        tune.winner({"windows+pad_keys": row})
    assert "logits moved" in told.value.found


def test_what_was_measured_counts_more_than_the_score():
    slow = {"due": 2, "fused": 2, "total_us": 100.0, "measured_us": 300.0}
    assert tune.rank({"due": 2, "fused": 2, "total_us": 200.0, "measured_us": 250.0}) < tune.rank(slow)


def test_a_model_without_attention_has_nothing_to_tune(tmp_path):
    with pytest.raises(UsageError, match="no attention"):
        tune.tune(request(tmp_path, replace(VIT, attention_blocks=0)), Progress(quiet=True))
