import json
from pathlib import Path

import pytest

from exporter import choice, registry
from exporter import request as request_module
from exporter.forms import FORMS
from exporter.types import Batch, Request

FREE = Batch(1, 8, 32)


def request(model="swin_t", precision="fp16", batch=FREE, **fields):
    recipe = registry.recipe(model)
    kind = registry.precision(precision)
    return Request(recipe, kind, batch, ("sm80",), "tensorrt", "hub", "fp32", Path("out"), **fields)


@pytest.fixture
def table(monkeypatch, tmp_path):
    """Installs rows, by their key, as the table of make tune."""

    def install(**rows):
        path = tmp_path / "tuned.json"
        path.write_text(json.dumps(rows))
        monkeypatch.setattr(choice, "TABLE", path)

    monkeypatch.setattr(choice, "TABLE", tmp_path / "none.json")
    return install


def row(winner):
    return {"winner": winner, "compiler": "compiler 1.0"}


def test_without_a_table_a_rule_decides(table):
    assert choice.choose(request()).form == "positions_packed"
    assert choice.choose(request(batch=Batch(4, 4, 4))).form == "positions_planes"
    assert choice.choose(request(precision="fp32")).form == "windows"
    assert choice.choose(request("mixer_b")).form == "windows"


def test_what_is_asked_for_comes_first(table):
    made = request(form="windows_packed")
    table(**{choice.key("swin_t", made): row("positions_packed")})
    assert choice.choose(made) == choice.Choice("windows_packed", "asked for")


def test_the_models_own_row_then_its_familys(table):
    made = request()
    table(**{choice.key("swin_s", made): row("windows"), choice.key("swin_t", made): row("windows_packed")})
    assert choice.choose(made) == choice.Choice("windows_packed", "tuned for this model", "compiler 1.0")
    assert choice.choose(request("swin_b")) == choice.Choice("windows", "tuned for its family", "compiler 1.0")
    assert choice.choose(request("vit_b")).why == "by rule"


@pytest.mark.parametrize("other", [{"precision": "bf16"}, {"batch": Batch(8, 8, 8)}])
def test_a_row_of_another_precision_or_batch_is_not_taken(table, other):
    table(**{choice.key("swin_t", request()): row("windows")})
    assert choice.choose(request(**other)).why == "by rule"


def test_the_models_own_row_at_another_free_batch_comes_before_its_familys(table):
    made = request(batch=Batch(1, 4, 16))
    table(**{choice.key("swin_t", request()): row("windows"), choice.key("swin_s", made): row("windows_packed")})
    assert choice.choose(made) == choice.Choice("windows", "tuned for this model at batch 1:8:32", "compiler 1.0")
    assert choice.choose(request("swin_b", batch=Batch(1, 4, 16))).form == "windows_packed"
    assert choice.choose(request("swin_b", batch=Batch(2, 4, 6))).why == "tuned for its family at batch 1:8:32"
    assert choice.choose(request(batch=Batch(4, 4, 4))).why == "by rule"


def test_the_steps_of_a_form():
    assert choice.Choice("windows", "").steps() == ()
    form, *others = choice.Choice("positions_packed", "").steps()
    assert (form.name, form.options) == ("attention_form", {"form": "positions_packed"})
    assert [step.name for step in others] == ["join_position_terms", "cancel_permutations"]


def test_a_variant_is_a_rewrite_after_the_form():
    names = [step.name for step in choice.Choice("positions_packed+slice_permutations+pad_keys", "").steps()]
    assert names == [
        "attention_form", "join_position_terms", "cancel_permutations", "slice_permutations", "pad_keys",
    ]  # fmt: skip
    assert [step.name for step in choice.Choice("windows+pad_keys", "").steps()] == ["pad_keys"]


def test_the_table_names_forms_that_exist():
    assert list(FORMS) == list(request_module.FORMS)
    assert all(request_module.parse_form(made["winner"]) == made["winner"] for made in choice.read().values())
