from dataclasses import replace
from types import SimpleNamespace

import pytest

from exporter import registry
from exporter.errors import UsageError


def test_an_unknown_model_offers_the_nearest_names():
    with pytest.raises(UsageError) as caught:
        registry.recipe("swinb")
    assert "swin_b" in str(caught.value) and caught.value.exit_code == 2


def test_an_unknown_precision_lists_the_known_ones():
    with pytest.raises(UsageError) as caught:
        registry.precision("fp61")
    assert "fp16" in str(caught.value)


def test_precisions_are_found_by_file_and_case_does_not_matter():
    assert set(registry.precisions()) == {"fp32", "tf32", "fp16", "bf16", "int8", "int8-bf16", "fp8"}
    assert registry.precision("FP16") is registry.precision("fp16")


def test_two_recipes_of_one_name_are_an_error(monkeypatch):
    first = registry.recipe("vit_ti")
    files = [SimpleNamespace(__name__=f"recipes.{n}", __file__=n, RECIPES=(replace(first, family=n),)) for n in "ab"]
    monkeypatch.setattr(registry, "_modules", lambda package: files)
    with pytest.raises(UsageError, match="two recipes are called 'vit_ti'"):
        registry.recipes.__wrapped__()


def test_a_recipes_source_is_its_familys_file_and_the_shared_helpers():
    text = registry.recipe_source(registry.recipe("swin_t"))
    assert "arXiv:2103.14030" in text and "checkpoint_filter_fn" in text


def test_source_does_not_import(monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "exporter.numerics", raising=False)
    assert "numerics twin" in registry.source("exporter.numerics")
    assert "exporter.numerics" not in sys.modules


def test_a_module_of_ours_is_part_of_its_recipes_source():
    text = registry.recipe_source(registry.recipe("s2_mlp_wide"))
    assert "def spatial_shift" in text and 'family="s2_mlp"' in text
    assert "def spatial_shift" not in registry.recipe_source(registry.recipe("swin_t"))
