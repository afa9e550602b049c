import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from exporter import registry
from exporter.types import CANONICAL, ModuleSpec

RECIPES = registry.recipes()
WANTED = {
    *(f"vit_{size}" for size in ("ti", "s", "b", "l", "b32", "l32")),
    *(f"swin_{size}{image}" for size in "tsbl" for image in ("", "_384")),
    *(f"mixer_{size}" for size in "sbl"),
    *(f"deit_{size}{kind}" for size in ("ti", "s", "b") for kind in ("", "_distilled")),
    *(f"swin_v2_{size}" for size in "tsb"),
    *(f"mvit_v2_{size}" for size in "tsb"),
    *(f"resmlp_s{depth}" for depth in (12, 24, 36)),
    *(f"s2_mlp_{size}" for size in ("wide", "deep")),
    *(f"cyclemlp_b{size}" for size in (1, 2)),
    "r26_vit_s32",
    "r50_vit_b16",
    "non_local_r50",
    "lr_net_50",
    "sasa_r50",
    "sagan_d",
    "igpt_s",
    "gmlp_s",
    "mvit_b",
    "resnet50",
    "detr_r50",
}
FUSED_AS_THEY_ARE = {"mvit": {16}, "mvit_v2": {9, 15, 22}, "non_local": {0}, "lr_net": {0}, "sasa": {13}, "sagan": {0}}
"""Families whose attentions are no form of ours, and how many of them the compiler fuses; their files say why."""

WINDOWED = {"lr_net", "sasa"}
"""Families whose dense blocks multiply more than the paper counts: their own tests count by the formulas."""


def on_meta(recipe, classes=None):
    """The recipe's module without memory: shapes, names and FLOPs, no values."""
    with torch.device("meta"):
        return recipe.build(ModuleSpec(recipe.preprocessing.size, classes or recipe.classes))


def test_every_promised_model_has_a_recipe():
    assert set(RECIPES) >= WANTED


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_parameters_and_gflops_are_the_published_ones(recipe):
    parameters, gflops = recipe.published
    device = "cpu" if recipe.task == "detection" else "meta"  # DETR's forward reads a value of its mask
    with torch.device(device):
        module = recipe.build(ModuleSpec(recipe.preprocessing.size, recipe.classes))
    module.to(device)  # transformers' ImageGPT makes some weights on the CPU whatever the context says
    assert sum(p.numel() for p in module.parameters()) / 1e6 == pytest.approx(parameters, rel=0.01)
    if recipe.family in WINDOWED:
        return
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(torch.zeros(1, *recipe.inputs[0].shape, device=device))
    # papers count a multiply-add as one and print one decimal
    assert counter.get_total_flops() / 2e9 == pytest.approx(gflops, rel=0.03, abs=0.05)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_head_counts_the_classes(recipe):
    state = on_meta(recipe, classes=37).state_dict()
    name = next(n for n in recipe.head if n in state)
    assert state[name].shape[0] - recipe.head_extra == 37


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_says_what_it_promises(recipe):
    assert recipe.paper
    due = {step.name: step.matches for step in recipe.rewrites}
    assert tuple(due) == tuple(name for name in CANONICAL if name in due)
    assert set(CANONICAL) - set(due) <= {"patch_embedding"} and due["share_constants"] is None
    if recipe.family in FUSED_AS_THEY_ARE:
        assert set(recipe.fused_attention.values()) <= FUSED_AS_THEY_ARE[recipe.family]
        return
    assert (due["attention_form"] or 0) == recipe.attention_blocks
    assert set(recipe.tolerances) == set(registry.precisions())
    assert recipe.batch.min <= recipe.batch.opt <= recipe.batch.max
    for kind in ("fp16", "bf16"):
        assert recipe.fused_attention.get(kind, 0) == recipe.attention_blocks


@pytest.mark.parametrize("recipe", [r for r in RECIPES.values() if r.hub and r.family != "detr"], ids=lambda r: r.name)
def test_preprocessing_and_hub_are_what_timm_says_of_these_weights(recipe):
    import timm

    config = timm.get_pretrained_cfg(recipe.hub.removeprefix("timm/"))
    how = recipe.preprocessing
    assert config.hf_hub_id == recipe.hub
    assert (config.mean, config.std, config.crop_pct, config.interpolation, config.input_size[1:]) == (
        how.mean,
        how.std,
        how.crop_pct,
        how.interpolation,
        how.size,
    )
