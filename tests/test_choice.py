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
    assert choice.choose(request()).form == "positions_apart"
    assert choice.choose(request("swin_v2_t")).form == "positions_packed"  # its queries have a bias
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
    assert choice.Choice("windows", "").steps(12) == ()
    unbiased, form, *others = choice.Choice("positions_packed", "").steps(12)
    assert (unbiased.name, unbiased.matches) == ("absorb_query_biases", 12)
    assert (form.name, form.options) == ("attention_form", {"form": "positions_packed"})
    assert [step.name for step in others] == ["join_position_terms", "cancel_permutations"]


def test_what_is_left_out_is_no_step_and_then_no_count_is_due():
    def names(*without):
        return [(step.name, step.matches) for step in choice.Choice("positions_apart", "").steps(12, without)]

    whole = [("absorb_query_biases", None), ("attention_form", None), ("join_position_terms", None),
             ("cancel_permutations", None)]  # fmt: skip
    assert names("fuse_gelu") == whole
    assert names("absorb_query_biases") == whole[1:]
    assert names("join_position_terms", "attention_form", "cancel_permutations") == [*whole[:2], whole[3]]


@pytest.mark.parametrize("precision", ["int8", "int8-bf16"])
def test_three_products_are_one_in_8_bits(table, precision):
    table(**{choice.key("swin_t", request()): row("positions_apart+slice_permutations")})
    if precision == "int8":
        made = choice.choose(request(precision=precision))
        assert made.form == "positions_packed+slice_permutations"
        assert made.why == "tuned for this model, positions_packed in 8 bits"
    assert choice.choose(request()).form == "positions_apart+slice_permutations"
    assert choice.choose(request(precision=precision)).balanced and not choice.choose(request()).balanced
    (form,) = [s for s in choice.choose(request(precision=precision)).steps() if s.name == "attention_form"]
    assert form.options["balanced"]
    assert choice.choose(request(precision=precision, form="positions_apart")).form == "positions_apart"
    table()
    assert choice.choose(request(precision=precision)).form == "positions_packed"
    assert choice.choose(request(precision=precision, batch=Batch(4, 4, 4))).form == "positions_planes"


def test_a_variant_is_a_rewrite_after_the_form():
    names = [step.name for step in choice.Choice("positions_packed+slice_permutations+pad_keys", "").steps()]
    assert names == [
        "absorb_query_biases", "attention_form", "join_position_terms", "cancel_permutations",
        "slice_permutations", "pad_keys",
    ]  # fmt: skip
    assert [step.name for step in choice.Choice("windows+pad_keys", "").steps()] == ["pad_keys"]


def test_the_table_names_forms_that_exist():
    assert list(FORMS) == list(request_module.FORMS)
    assert all(request_module.parse_form(made["winner"]) == made["winner"] for made in choice.read().values())
