"""Whole builds in 8 bits of two-block models: real calibration, real compiler, real comparisons."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from models import SWIN, VIT

from exporter import budget, checks, choice, pipeline, registry
from exporter.errors import UsageError
from exporter.goal import Goal
from exporter.progress import Progress
from exporter.stages import calibrate, form, place, rewrite, trace, weights
from exporter.types import Batch, Preprocessing, Recipe, Request


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("out")


def asked(out, recipe=VIT, precision="int8", **fields):
    fields = {"batch": recipe.batch, "targets": ("sm80",), "backend": "tensorrt-rtx", "weights": "random",
              "io": "fp32", "command": "test", "calib_images": 4} | fields  # fmt: skip
    return Request(recipe=recipe, precision=registry.precision(precision), out=out, **fields)


def build(out, *arguments, **fields):
    return pipeline.run(asked(out, *arguments, **fields), Progress(quiet=True))


def kinds(folder) -> list:
    model = onnx.load(folder / "model.onnx")
    return [t.data_type for t in model.graph.initializer if len(t.dims) >= 2]


# The last MLP of a ViT runs on its class token alone, which is no work for 8 bits; its patch embedding is.
@pytest.mark.parametrize("recipe, products", [(VIT, 2 * 4 - 2 + 1), (SWIN, 4 * 4 + 1)])
def test_an_int8_build_is_whole_and_passes(recipe, products, out):
    made = build(out, recipe)
    record = made.manifest
    assert made.failures == () and record["status"] == "passed"
    with_weights = [n for n in record["quantized"] if "attn" in n or "mlp" in n or "downsample" in n]
    assert len(with_weights) >= products
    assert kinds(made.folder).count(onnx.TensorProto.INT8) >= products
    assert {p.name for p in made.folder.iterdir()} >= {"calibration.json", "placement.json", "ranges.json"}
    ranges = json.loads((made.folder / "calibration.json").read_text())["tensors"]
    assert ranges and all(0 < row["amax"] <= row["largest"] for row in ranges.values())
    facts = record["calibration"]
    assert (facts["images"], facts["method"], facts["skipped"]) == (4, "mse", 0) and len(facts["sha256"]) == 64
    error = record["parity"]["rewritten/typed"]["relative_max"]
    assert 1e-3 < error < 0.3  # eight bits round, and no more than round
    names = {k["name"]: k for k in json.loads((made.folder / "kernels.json").read_text())["kernels"]}
    eight = [k for k in names.values() if any(t["type"] == "Int8" for t in k["inputs"]) and k["kind"] == "matmul"]
    assert len(eight) >= products, "the compiler did not multiply in INT8"
    assert all(t["type"] == "Int8" for k in eight for t in k["outputs"]), "a product wrote 16 bits"


def test_the_manifest_compares_with_the_16_bit_engine(out):
    facts = build(out).manifest["against_base"]
    base, best = facts["rows"]["fp16"], facts["rows"][facts["winner"]]
    assert facts["base"] == "fp16" and facts["winner"] in place.CANDIDATES
    assert facts["gain"] == pytest.approx(base["total_us"] / best["total_us"], rel=1e-2)
    assert best["fused"] == base["fused"] == 2
    assert all(row["total_us"] >= best["total_us"] for row in facts["rows"].values() if row is not base)


def test_the_16_bit_engine_is_compared_in_its_own_form(out, monkeypatch, tmp_path):
    monkeypatch.setattr(choice, "TABLE", tmp_path / "none.json")
    made = build(out)
    assert json.loads((made.folder / "manifest.json").read_text())["attention_form"]["name"] == "positions_packed"
    whole = build(out, precision="fp16", batch=Batch(2, 2, 2), form="positions_apart")
    assert whole.manifest["kernels"]["sm80"]["count"] == made.manifest["against_base"]["rows"]["fp16"]["kernels"]
    packed = build(out, precision="fp16", batch=Batch(2, 2, 2), form="positions_packed")
    assert packed.manifest["kernels"]["sm80"]["count"] > whole.manifest["kernels"]["sm80"]["count"]


def test_attention_that_the_compiler_would_not_fuse_in_int8_stays_in_16_bits(out):
    facts = build(out, SWIN, precision="int8-bf16").manifest
    rows = facts["against_base"]["rows"]
    assert rows[place.EVERYTHING]["fused"] < rows[place.PRODUCTS]["fused"] == 4
    assert facts["against_base"]["winner"] == place.PRODUCTS and facts["status"] == "passed"


def test_fp8_is_typed_as_e4m3(out):
    made = build(out, precision="fp8", targets=("sm89",))
    assert made.failures == () and onnx.TensorProto.FLOAT8E4M3FN in kinds(made.folder)
    assert 1e-3 < made.manifest["parity"]["rewritten/typed"]["relative_max"] < 0.3


def test_no_gain_fails_where_gain_is_required(out):
    """These models are so small that launches are all that counts, and 8 bits need more of them."""
    made = build(out, require_gain=True)
    assert made.manifest["against_base"]["gain"] < 1.0
    (failure,) = made.failures
    assert "not faster than fp16" in str(failure) and "PRECISION=fp16" in str(failure)
    assert made.folder.name == "int8.failed"
    assert build(out).failures == ()


def calibrated(out, **fields):
    """Whether the ranges were made anew, and the stage's entry."""
    stages = (weights, trace, rewrite, form, calibrate)
    entry = pipeline.prepare(asked(out, **fields), Progress(quiet=True), stages).entries["calibrate"]
    return not entry.reused, entry


def test_a_network_of_convolutions_alone_is_refused(out):
    def made(spec):
        layers = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        return torch.nn.Sequential(*layers, torch.nn.Linear(8, spec.classes)).eval()

    how = Preprocessing((32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    recipe = Recipe("convolutions", made, how, classes=10, batch=Batch(1, 2, 3), origin="this test")
    with pytest.raises(UsageError, match="nothing to quantise") as caught:
        build(out, recipe)
    assert "PRECISION=fp16" in caught.value.next


def test_ranges_are_reused_until_something_changed(out, tmp_path):
    calibrated(out)
    assert not calibrated(out, io="fp16")[0]
    assert calibrated(out, observer="minmax")[0]
    assert calibrated(out, calib_images=3)[0]
    pixels = np.random.default_rng(0).standard_normal((2, *VIT.inputs[0].shape), dtype=np.float32)
    np.save(tmp_path / "pixels.npy", pixels)
    made, entry = calibrated(out, calib=tmp_path / "pixels.npy")
    assert made and entry.meta["source"].endswith("pixels.npy") and entry.meta["images"] == 2
    np.save(tmp_path / "pixels.npy", pixels * 2)
    assert calibrated(out, calib=tmp_path / "pixels.npy")[0]


def test_a_tensor_that_is_all_zero_stays_in_16_bits_and_is_named(out, tmp_path, capfd):
    np.save(tmp_path / "black.npy", np.zeros((2, *VIT.inputs[0].shape), np.float32))
    made = build(out, calib=tmp_path / "black.npy")
    assert "is all zero on the calibration images" in capfd.readouterr().err
    left = made.manifest["left_in_16_bit"]
    assert any("patch_embed" in node and "all zero" in why for node, why in left.items())
    assert not any("patch_embed" in node for node in made.manifest["quantized"])


def test_the_fusion_contract_of_an_8_bit_engine_is_that_of_its_base(out):
    promised = replace(VIT, fused_attention={"fp16": 3})
    (failure,) = build(out, promised).failures
    assert "did not fuse" in str(failure) and checks.__doc__


def test_a_budget_leaves_blocks_in_16_bits(out, monkeypatch):
    """As if eight bits anywhere but in block 1 changed answers."""
    seen = []

    def measure(self, typed):
        return {"drop": drop(self, typed) if typed is not None else 0.0, "relative_max": 0.0}

    def drop(self, typed):
        eight = {name for n in typed.graph.node if n.op_type == "DequantizeLinear" for name in n.output}
        names = [n.name for n in typed.graph.node if n.op_type == "MatMul" and n.input[1] in eight]
        seen.append(any("blocks.0" in name or "patch_embed" in name for name in names))
        return 50.0 * seen[-1]

    monkeypatch.setattr(budget.Answers, "measure", measure)
    monkeypatch.setattr(budget.Answers, "error", drop)
    made = build(out, goal=Goal(drop=25.0))
    facts = made.manifest["against_base"]
    assert seen[0] and facts["search"][-1]["drop"] == 0.0
    assert set(facts["left"]) == {"blocks.0", "patch_embed"}
    assert len(facts["search"]) >= len(facts["left"]) + 1
    assert not any("blocks.0" in node for node in made.manifest["quantized"])
    assert facts["rows"][place.WITHIN]["kernels"] > 0 and made.failures == ()
    why = {node: why for node, why in made.manifest["left_in_16_bit"].items() if "blocks.0.mlp" in node}
    assert why and all("loses more" in text for text in why.values())
