import json

import faults
import numpy as np
import planted
import pytest
import torch
from planted import canonical, copy, pixels, typed

from exporter import blame, candidate, cli, onnxio
from exporter.errors import UsageError

SEEDS = 20


@pytest.fixture(scope="module")
def traced():
    """(subject, a copy of its export) of a family, made when it is asked for."""
    made = {}

    def get(family):
        if family not in made:
            of = planted.subject(family)
            made[family] = of, of.exported()
        of, model = made[family]
        return of, copy(model)

    return get


@pytest.mark.parametrize("fault", planted.FAULTS, ids=str)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_planted_fault_is_named(traced, fault, precision):
    of, model = traced(fault.family)
    if fault.form:
        model = canonical(of.recipe, model, fault.form)
        assert of.guilty(model) is None
    model = typed(model) if precision == "fp16" else model
    fault.plant(model, fault.at)
    found = of.guilty(model)
    assert fault.named(found), found


@pytest.mark.parametrize("family", planted.THOUSANDS)
def test_a_layer_norm_that_was_decomposed_overflows_at_1000_and_is_named(traced, family):
    of, norm = traced(family)[0], planted.THOUSANDS[family][1]
    with planted.a_thousand(of):
        model = typed(of.exported())
        assert of.guilty(model) is None
        faults.decompose_layer_norm(model, norm)
        found = of.guilty(model)
    assert found["unit"] == norm and found["node"] == f"{norm}/Pow_square"
    assert found["range"]["amax"] > 65504 and found["range"]["inf"] > 0 and "overflows" in found["diagnosis"]


@pytest.mark.parametrize("family", planted.CHANNELS)
def test_a_channel_of_100000_is_named_where_it_arises(traced, family):
    of = traced(family)[0]
    with planted.huge_channel(of):
        model = of.exported()
        assert of.guilty(model) is None
        found = of.guilty(typed(model))
        assert of.guilty(typed(model, "bf16")) is None
    assert found["block"] == planted.CHANNELS[family][1]
    assert found["range"]["inf"] > 0 and "bf16" in found["diagnosis"]


@pytest.mark.parametrize("family", planted.RECIPES)
def test_nobody_is_named_where_nothing_was_planted(traced, family):
    of, model = traced(family)
    images = np.concatenate([pixels(of.recipe, seed) for seed in range(SEEDS)])
    for precision, graph in (("fp32", model), ("fp16", typed(model))):
        rung = blame.foreign(graph, precision, of.recipe)[-1]
        report, _, found = blame.judge(rung, of.module, of.recipe, images)
        assert found is None and report["status"] == "passed", (precision, found, report["why"])
        assert report["samples"] == len(images)


def test_a_factor_is_found(traced):
    of, model = traced("swin")
    faults.scale(model, "layers.1.downsample.reduction")  # it has no bias
    assert "1.01 times" in of.guilty(model)["diagnosis"]


def test_a_graph_without_module_paths_is_matched_by_its_structure(traced):
    of, model = traced("swin")
    faults.scale(model, "layers.1.blocks.0.mlp.fc1")
    faults.without_names(model)
    rung = blame.foreign(model, "other", of.recipe)[0]
    report, _, found = blame.judge(rung, of.module, of.recipe, pixels(of.recipe))
    assert found["unit"] == "layers.1.blocks.0.mlp.fc1" and report["by"].startswith("structure")


def test_a_unit_that_makes_nan_in_torch_is_named_and_no_graph_blamed(traced, tmp_path, capsys):
    of, _ = traced("vit")
    norm = of.module.blocks[1].norm1
    with torch.no_grad():
        before = norm.weight.clone()
        norm.weight[0] = float("nan")
    try:
        assert blame.first_nan(of.module, pixels(of.recipe)) == "blocks.1.norm1"
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
    of, model = traced("vit")
    edit(model)
    onnxio.save(model, tmp_path / "other.onnx")
    with pytest.raises(UsageError, match=says):
        candidate.load(tmp_path / "other.onnx", of.recipe)


def test_other_names_and_another_opset_are_remarked(traced, tmp_path):
    of, model = traced("vit")
    for value, name in ((model.graph.input[0], "x"), (model.graph.output[0], "y")):
        old = value.name
        value.name = name
        for node in model.graph.node:
            node.input[:] = [name if n == old else n for n in node.input]
            node.output[:] = [name if n == old else n for n in node.output]
    model.opset_import[0].version = 21
    onnxio.save(model, tmp_path / "other.onnx")
    loaded, remarks = candidate.load(tmp_path / "other.onnx", of.recipe)
    assert (
        any("called x" in r for r in remarks)
        and any("called y" in r for r in remarks)
        and any("opset 21" in r for r in remarks)
    )
    assert of.guilty(loaded) is None


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
