import json

import faults
import models
import numpy as np
import onnx
import pytest
import torch

from exporter import blame, candidate, casting, choice, cli, onnxio, registry, rewriting, trace, weights
from exporter.errors import UsageError
from exporter.types import ModuleSpec

SEEDS = 20
RECIPES = {"vit": models.VIT, "swin": models.SWIN, "mixer": models.MIXER, "detr": models.DETR}


def copy(model):
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def pixels(recipe, seed=0, count=3):
    return np.random.default_rng(seed).standard_normal((count, *recipe.inputs[0].shape), dtype=np.float32)


@pytest.fixture(scope="module")
def traced():
    """Each family's small model and its export, made when it is asked for."""
    made = {}

    def get(name):
        if name not in made:
            recipe = RECIPES[name]
            torch.manual_seed(0)
            module = recipe.build(ModuleSpec(recipe.preprocessing.size, recipe.classes))
            weights.shake(module)
            made[name] = recipe, module, trace.export(module, recipe)
        recipe, module, model = made[name]
        return recipe, module, copy(model)

    return get


def canonical(recipe, model, form="windows"):
    model, _ = rewriting.rewrite(model, recipe)
    return rewriting.rewrite(model, recipe, steps=choice.Choice(form, "").steps())[0]


def typed(model, precision="fp16"):
    return casting.cast(copy(model), registry.precision(precision)).model


def guilty(recipe, module, model, images=None, name="candidate"):
    """The first verdict of a file's rungs."""
    for rung in blame.foreign(model, name, recipe):
        _, _, found = blame.judge(rung, module, recipe, pixels(recipe) if images is None else images)
        if found is not None:
            return found
    return None


PLANTED = [
    ("vit", "blocks.1.mlp.fc1", faults.scale, "blocks.1.mlp.fc1"),
    ("vit", "blocks.0.attn.proj", faults.swap_heads(64), "blocks.0.attn"),
    ("vit", "blocks.1.attn", faults.baked_batch(2), "blocks.1.attn"),
    ("swin", "layers.0.blocks.1.mlp.fc2", faults.scale, "layers.0.blocks.1.mlp.fc2"),
    ("swin", "layers.1.downsample.reduction", faults.scale, "layers.1.downsample"),
    ("swin", "layers.1.blocks.0.attn.proj", faults.swap_heads(16), "layers.1.blocks.0.attn"),
    ("mixer", "blocks.1.mlp_tokens.fc1", faults.scale, "blocks.1"),
    ("mixer", "blocks.0.mlp_channels.fc2", faults.scale, "blocks.0.mlp_channels.fc2"),
    ("mixer", "stem.proj", faults.scale, "stem.proj"),
    ("detr", "model.encoder.layers.1.mlp.fc1", faults.scale, "model.encoder.layers.1.mlp.fc1"),
    (
        "detr",
        "model.decoder.layers.0.encoder_attn.o_proj",
        faults.swap_heads(16),
        "model.decoder.layers.0.encoder_attn",
    ),
    ("detr", "model.backbone.model.layer3.0.conv1", faults.scale, "model.backbone.model.layer3.0.conv1"),
    ("detr", "bbox_predictor.layers.1", faults.scale, "bbox_predictor"),
]


@pytest.mark.parametrize(("family", "at", "plant", "unit"), PLANTED, ids=[f"{f}-{a}" for f, a, _, _ in PLANTED])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_planted_fault_is_named(traced, family, at, plant, unit, precision):
    recipe, module, model = traced(family)
    model = typed(model) if precision == "fp16" else model
    plant(model, at)
    found = guilty(recipe, module, model)
    assert found is not None and found["unit"].startswith(unit) and at.startswith(found["block"]), found


@pytest.mark.parametrize(("plant", "at"), [(faults.wrong_mask, "layers.0.blocks.1.attn")])
def test_a_shift_mask_of_the_wrong_sign_is_named(traced, plant, at):
    recipe, module, model = traced("swin")
    plant(model, at)
    assert guilty(recipe, module, model)["unit"].startswith(at)


@pytest.mark.parametrize("form", ["windows", "positions_packed"])
def test_a_transposed_bias_is_named_in_a_graph_whose_tokens_lie_in_window_order(traced, form):
    recipe, module, model = traced("swin")
    model = canonical(recipe, model, form)
    assert guilty(recipe, module, model) is None
    faults.transposed_bias(model, "layers.1.blocks.1.attn")
    assert guilty(recipe, module, model)["unit"].startswith("layers.1.blocks.1.attn")


def test_a_layer_norm_that_was_decomposed_overflows_at_1000_and_is_named(traced):
    recipe, module, model = traced("vit")
    big = torch.nn.Parameter(module.pos_embed.detach().clone())
    big.data[..., 0] = 1000.0
    before, module.pos_embed = module.pos_embed, big
    try:
        model = typed(trace.export(module, recipe))
        assert guilty(recipe, module, model) is None
        faults.decompose_layer_norm(model, "blocks.0.norm1")
        found = guilty(recipe, module, model)
    finally:
        module.pos_embed = before
    assert found["unit"] == "blocks.0.norm1" and found["node"] == "blocks.0.norm1/Pow_square"
    assert found["range"]["amax"] > 65504 and found["range"]["inf"] > 0 and "overflows" in found["diagnosis"]


@pytest.mark.parametrize(
    ("family", "block"), [("vit", "blocks.1"), ("swin", "layers.1.blocks.0"), ("mixer", "blocks.0")]
)
def test_a_channel_of_100000_is_named_where_it_arises(traced, family, block):
    recipe, module, _ = traced(family)
    fc2 = module.get_submodule(f"{block}.mlp_channels.fc2" if family == "mixer" else f"{block}.mlp.fc2")
    with torch.no_grad():
        before, gain = fc2.weight.clone(), 1e5 / fc2(torch.ones(1, fc2.in_features))[0, 3].abs()
        fc2.weight[3] = fc2.weight[3].abs() * gain
    try:
        model = trace.export(module, recipe)
        assert guilty(recipe, module, model) is None
        found = guilty(recipe, module, typed(model))
        assert guilty(recipe, module, typed(model, "bf16")) is None
    finally:
        with torch.no_grad():
            fc2.weight.copy_(before)
    assert found["block"] == block and found["range"]["inf"] > 0 and "bf16" in found["diagnosis"]


@pytest.mark.parametrize("family", RECIPES)
def test_nobody_is_named_where_nothing_was_planted(traced, family):
    recipe, module, model = traced(family)
    images = np.concatenate([pixels(recipe, seed) for seed in range(SEEDS)])
    for precision, graph in (("fp32", model), ("fp16", typed(model))):
        rung = blame.foreign(graph, precision, recipe)[-1]
        report, _, found = blame.judge(rung, module, recipe, images)
        assert found is None and report["status"] == "passed", (precision, found, report["why"])
        assert report["samples"] == len(images)


def test_a_factor_is_found(traced):
    recipe, module, model = traced("swin")
    faults.scale(model, "layers.1.downsample.reduction")  # it has no bias
    assert "1.01 times" in guilty(recipe, module, model)["diagnosis"]


def test_a_graph_without_module_paths_is_matched_by_its_structure(traced):
    recipe, module, model = traced("swin")
    faults.scale(model, "layers.1.blocks.0.mlp.fc1")
    faults.without_names(model)
    rung = blame.foreign(model, "other", recipe)[0]
    report, _, found = blame.judge(rung, module, recipe, pixels(recipe))
    assert found["unit"] == "layers.1.blocks.0.mlp.fc1" and report["by"].startswith("structure")


def test_a_unit_that_makes_nan_in_torch_is_named_and_no_graph_blamed(traced, tmp_path, capsys):
    recipe, module, _ = traced("vit")
    norm = module.blocks[1].norm1
    with torch.no_grad():
        before = norm.weight.clone()
        norm.weight[0] = float("nan")
    try:
        assert blame.first_nan(module, pixels(recipe)) == "blocks.1.norm1"
    finally:
        with torch.no_grad():
            norm.weight.copy_(before)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda m: m.graph.input[0].type.tensor_type.shape.dim[2].__setattr__("dim_value", 96), "has another input"),
        (lambda m: m.graph.output.append(m.graph.output[0]), "has other outputs"),
        (lambda m: m.graph.node.pop(3), "no valid ONNX"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(traced, tmp_path, edit, says):
    recipe, _, model = traced("vit")
    edit(model)
    onnxio.save(model, tmp_path / "other.onnx")
    with pytest.raises(UsageError, match=says):
        candidate.load(tmp_path / "other.onnx", recipe)


def test_other_names_and_another_opset_are_remarked(traced, tmp_path):
    recipe, module, model = traced("vit")
    for value, name in ((model.graph.input[0], "x"), (model.graph.output[0], "y")):
        old = value.name
        value.name = name
        for node in model.graph.node:
            node.input[:] = [name if n == old else n for n in node.input]
            node.output[:] = [name if n == old else n for n in node.output]
    model.opset_import[0].version = 21
    onnxio.save(model, tmp_path / "other.onnx")
    loaded, remarks = candidate.load(tmp_path / "other.onnx", recipe)
    assert (
        any("called x" in r for r in remarks)
        and any("called y" in r for r in remarks)
        and any("opset 21" in r for r in remarks)
    )
    assert guilty(recipe, module, loaded) is None


def test_the_verb_walks_the_ladder_and_judges_a_file(tmp_path, capsys):
    words = ["blame", "vit_ti", "--weights", "random", "--out", str(tmp_path / "out"), "--quiet", "--json"]
    assert cli.main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["rungs"]) == ["torch/raw", "torch/rewritten", "torch/typed", "torch/engine"]
    assert report["guilty"] is None and report["rungs"]["torch/engine"]["status"] == "not run"
    model = onnxio.load(next((tmp_path / "out").glob(".cache/trace/*/raw.onnx")))
    faults.scale(model, "blocks.7.mlp.fc2")
    onnxio.save(model, tmp_path / "bad.onnx")
    assert cli.main([*words, "--onnx", str(tmp_path / "bad.onnx")]) == 1
    assert json.loads(capsys.readouterr().out)["guilty"]["unit"] == "blocks.7.mlp.fc2"
    assert cli.main([*words, "--onnx", str(tmp_path / "none.onnx")]) == 2


def test_of_an_8_bit_precision_only_what_is_before_the_quantisation_is_judged(tmp_path, capsys):
    words = ["blame", "mixer_digits", "--precision", "int8", "--target", "sm80", "--out", str(tmp_path), "--quiet"]
    assert cli.main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["guilty"] is None and set(report["rungs"]) == {"torch/raw", "torch/rewritten", "torch/engine"}
    assert "MAX_DROP" in report["remarks"][0]
