"""Whole builds of two-block models: real export, real rewrites, real compiler, real comparisons."""

import json
import os
import shutil
import time
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from models import SWIN, VIT
from safetensors.torch import save_file

from exporter import bundle, choice, passport, pipeline, registry, report, weights
from exporter.errors import CheckFailed, UsageError
from exporter.progress import Progress
from exporter.stages import fp32_parity
from exporter.types import CANONICAL, Batch, ModuleSpec, Request, Tolerance, canonical


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("out")


@pytest.fixture
def warm(cache, tmp_path):
    """A folder of its own in which every stage of the plain build is cached and nothing is published."""
    build(cache)
    shutil.copytree(cache / ".cache", tmp_path / ".cache")
    return tmp_path


def request(out, recipe=VIT, precision="fp16", **fields):
    fields = {"batch": recipe.batch, "targets": ("sm80",), "backend": "tensorrt-rtx", "weights": "random",
              "io": "fp32", "command": "test"} | fields  # fmt: skip
    return Request(recipe=recipe, precision=registry.precision(precision), out=out, **fields)


def build(out, *arguments, **fields):
    return pipeline.run(request(out, *arguments, **fields), Progress(quiet=True))


def test_a_build_leaves_a_whole_bundle_that_passed(cache):
    made = build(cache)
    assert made.failures == () and made.manifest["status"] == "passed"
    assert made.folder == cache / "tiny_vit" / "fp16"
    assert {p.name for p in made.folder.iterdir()} == {
        "model.onnx", "model.engine", "kernels.json", "parity.json", "ranges.json", "manifest.json",
        "sbom.cdx.json"}  # fmt: skip
    assert {p.name for p in (cache / "tiny_vit").iterdir()} >= {"raw.onnx", "model.fp32.onnx"}
    rungs = made.manifest["parity"]
    assert [(k, v["status"]) for k, v in rungs.items() if k != "typed/engine"] == [
        ("torch/raw", "passed"),
        ("raw/rewritten", "passed"),
        ("rewritten/typed", "passed"),
        ("torch/typed", "passed"),
    ]
    assert rungs["torch/raw"]["batches"] == [1, 3, 5] and rungs["torch/raw"]["samples"] == 9
    assert 1e-5 < rungs["rewritten/typed"]["relative_max"] < 0.01  # FP16 rounds, and only rounds
    floor = made.manifest["noise_floor"]
    assert 0 <= floor["between_threads"] < 1e-5 and floor["torch_onnxruntime"] < 1e-5
    assert floor["relative_max"] == max(floor["between_threads"], floor["torch_onnxruntime"]) > 0
    assert len(set(floor["threads"])) == 2
    for key, value in (("times_noise", rungs["torch/typed"]["relative_max"]), ("allowed_times_noise", 0.02)):
        assert rungs["torch/typed"][key] == pytest.approx(value / floor["relative_max"], rel=0.01)
    images = rungs["torch/raw"]["images"]
    assert images == len(json.loads((made.folder / "parity.json").read_text())["samples"])
    assert rungs["torch/raw"]["top1_interval"] == [pytest.approx(0.025 ** (1 / images), abs=1e-4), 1.0]
    kernels = made.manifest["kernels"]["sm80"]
    assert kernels["fused_attention"] == 2 and kernels["count"] == len(json.loads(
        (made.folder / "kernels.json").read_text())["kernels"])  # fmt: skip


def test_the_manifest_has_every_field_of_the_contract(cache):
    record = json.loads((build(cache).folder / "manifest.json").read_text())
    assert set(record) >= {
        "schema", "model", "recipe_sha256", "precision", "weights", "inputs", "outputs", "preprocessing", "batch",
        "opset", "rewrites", "onnx", "engine", "kernels", "parity", "calibration", "versions", "seconds",
        "peak_rss_bytes", "command",
    }  # fmt: skip
    assert set(record["weights"]) >= {"source", "sha256"}
    assert set(record["preprocessing"]) >= {"size", "interpolation", "mean", "std"}
    assert set(record["rewrites"][0]) == {"name", "matches", "nodes_before", "nodes_after", "max_abs_error"}
    assert set(record["onnx"]) >= {"sha256", "bytes", "nodes"}
    assert set(record["engine"]) >= {"sha256", "bytes", "backend", "backend_version", "targets"}
    assert set(record["kernels"]["sm80"]) >= {"count", "fused_attention", "bytes_moved", "flops", "roofline_us"}
    for rung in record["parity"].values():
        assert set(rung) >= {"status", "samples", "why"}
        assert rung["status"] == "not run" or set(rung) >= {"max_abs", "mean_abs", "cosine", "top1_agreement"}
    assert record["peak_rss_bytes"] > 10**8


def test_the_hashes_are_those_of_the_files(cache):
    from exporter.files import sha256_file

    made = build(cache)
    for part, name in (("onnx", "model.onnx"), ("engine", "model.engine")):
        assert made.manifest[part]["sha256"] == sha256_file(made.folder / name)
        assert made.manifest[part]["bytes"] == (made.folder / name).stat().st_size


def test_the_engines_graph_is_strongly_typed_with_a_symbolic_batch(cache):
    model = onnx.load(build(cache).folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    kinds = {t.data_type for t in model.graph.initializer if t.data_type != onnx.TensorProto.INT64}
    assert kinds == {onnx.TensorProto.FLOAT16}


def test_an_unchanged_build_reuses_every_stage_and_leaves_the_bundle_alone(cache):
    build(cache)
    before = {p: p.stat().st_mtime_ns for p in (cache / "tiny_vit" / "fp16").iterdir()}
    made = build(cache)
    assert made.reused
    assert {p: p.stat().st_mtime_ns for p in made.folder.iterdir()} == before


def test_a_second_precision_reuses_everything_up_to_the_rewritten_graph(cache):
    build(cache)
    made = build(cache, precision="bf16")
    assert made.built == ("type", "compile", "typed_parity", "engine_parity")
    assert made.manifest["status"] == "passed"


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_32_bit_precisions_pass_and_say_what_was_not_compared(cache, precision):
    made = build(cache, precision=precision)
    rung = made.manifest["parity"]["rewritten/typed"]
    assert made.failures == ()
    assert rung["status"] == ("not run" if precision == "fp32" else "passed") and (rung["why"] or precision == "tf32")


def test_no_gpu_means_not_run_and_why(cache):
    from exporter.backends.tensorrt import cuda_device

    device, why = cuda_device()
    if device is not None:
        pytest.skip("this machine has a GPU")
    rung = build(cache).manifest["parity"]["typed/engine"]
    assert (rung["status"], rung["why"]) == ("not run", why) and why


def test_windowed_attention_passes_too(cache):
    made = build(cache, SWIN, batch=Batch(1, 2, 3))
    assert made.failures == () and made.manifest["kernels"]["sm80"]["fused_attention"] == 4


def test_another_image_size_whose_windows_are_padded(cache):
    recipe = replace(
        SWIN.at((128, 160)), rewrites=canonical(static_shapes=1, attention_form=1)
    )  # at another size a count only must not be zero
    made = build(cache, recipe, native_image=False, batch=Batch(1, 1, 3))
    assert made.failures == () and made.manifest["inputs"][0]["shape"][2:] == [128, 160]
    assert made.manifest["kernels"]["sm80"]["fused_attention"] == 4
    (absorbed,) = [r for r in made.manifest["rewrites"] if r["name"] == choice.ABSORB]
    assert absorbed["matches"] == 0  # rows of zeros come between the normalisation and the projections


def test_a_static_batch(cache):
    made = build(cache, batch=Batch(2, 2, 2))
    assert made.failures == ()
    shape = made.manifest["inputs"][0]["shape"]
    assert shape == [2, 3, 64, 64]
    report = json.loads((made.folder / "kernels.json").read_text())
    assert report["kernels"] == report["at_opt"]
    assert made.manifest["parity"]["torch/raw"]["batches"] == [2, 2, 2, 2]


def test_half_precision_at_the_boundary(cache):
    made = build(cache, io="fp16")
    assert [made.manifest[side][0]["dtype"] for side in ("inputs", "outputs")] == ["float16", "float16"]
    assert made.failures == ()


def test_a_checkpoint_with_37_classes(tmp_path):
    torch.manual_seed(1)
    module = VIT.build(ModuleSpec(VIT.preprocessing.size, 37))
    save_file({f"module.{k}": v for k, v in module.state_dict().items()}, tmp_path / "mine.safetensors")
    made = build(tmp_path / "out", weights=str(tmp_path / "mine.safetensors"))
    assert made.failures == ()
    assert made.manifest["outputs"][0]["shape"][1] == 37
    assert made.manifest["weights"]["source"] == "mine.safetensors"
    assert made.manifest["weights"]["sha256"] == weights.locate(VIT, str(tmp_path / "mine.safetensors")).sha256
    pixels = torch.randn(1, 3, 64, 64)
    import onnxruntime

    session = onnxruntime.InferenceSession(made.folder.parent / "raw.onnx", providers=["CPUExecutionProvider"])
    with torch.no_grad():
        np.testing.assert_allclose(session.run(None, {"pixels": pixels.numpy()})[0], module(pixels), atol=1e-5)


def test_a_fallen_parity_exits_through_a_failed_bundle_and_keeps_the_last_good_one(warm):
    good = build(warm)
    tight = VIT.tolerances | {"fp16": Tolerance(1e-9, 1.0)}
    made = build(warm, replace(VIT, tolerances=tight))
    assert made.folder.name == "fp16.failed" and made.manifest["status"] == "failed"
    assert {type(f) for f in made.failures} == {CheckFailed}
    assert "logits at batch" in str(made.failures[0])
    assert json.loads((good.folder / "manifest.json").read_text())["status"] == "passed"
    assert build(warm).reused
    build(warm, precision="bf16")


def test_a_passing_build_removes_the_failed_bundle(warm):
    build(warm, replace(VIT, tolerances=VIT.tolerances | {"fp16": Tolerance(1e-9, 1.0)}))
    assert (warm / "tiny_vit" / "fp16.failed").is_dir()
    build(warm)
    assert not (warm / "tiny_vit" / "fp16.failed").exists()


def test_less_fusion_than_promised_fails_and_can_be_allowed(cache):
    promised = replace(VIT, fused_attention={"fp32": 2})
    made = build(cache, promised, "fp32")
    (failure,) = made.failures
    assert failure.found.startswith("0 fused; not blocks.0, blocks.1: ") and failure.expected.startswith("2 attention")
    made = build(cache, promised, "fp32", allow_unfused=True)
    assert made.failures == () and made.manifest["unfused_allowed"]


def test_a_rewrite_that_matches_less_often_than_due_stops_the_build(warm):
    with pytest.raises(CheckFailed, match="static_shapes") as caught:
        build(warm, replace(VIT, rewrites=canonical(static_shapes=18)))
    assert caught.value.model == "tiny_vit" and "17" in caught.value.found
    assert not (warm / "tiny_vit").exists()


def test_a_rewrite_can_be_left_out_and_the_manifest_says_so(cache):
    made = build(cache, without=("share_constants",))
    whole = [name for name in CANONICAL if name != "share_constants"]
    form = [choice.ABSORB, "attention_form", choice.JOIN, "cancel_permutations"]  # the form's own
    assert [r["name"] for r in made.manifest["rewrites"]] == whole + form
    assert made.manifest["without"] == ["share_constants"]
    for name in (choice.ABSORB, choice.JOIN):
        assert name not in [r["name"] for r in build(cache, without=(name,)).manifest["rewrites"]]


class BakedIn(torch.nn.Module):
    """Right at a batch of two and wrong at any other: divides by what should have been the batch's size."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(10, 3))

    def forward(self, x):
        size = x.shape[0] if torch.compiler.is_exporting() is False else 2
        pooled = x.mean((2, 3))
        return (pooled + pooled.sum(0, keepdim=True) / size) @ self.weight.T


def test_a_batch_size_that_was_baked_in_is_caught(tmp_path):
    made = build(
        tmp_path, replace(VIT, build=lambda spec: BakedIn().eval(), rewrites=(), attention_blocks=0, fused_attention={})
    )
    assert made.manifest["parity"]["torch/raw"]["status"] == "failed"
    assert made.folder.name == "fp16.failed"


def test_other_photographs_are_used_and_change_the_key(cache, tmp_path):
    from exporter import samples

    shutil.copy(samples.shipped()[0], tmp_path / "mine.png")
    made = build(cache, images=tmp_path)
    parity = json.loads((made.folder / "parity.json").read_text())
    assert parity["samples"] == ["mine.png", "noise 0", "noise 1"]
    assert "trace" not in made.built and "fp32_parity" in made.built


@pytest.mark.parametrize("content, says", [(None, "no images"), (b"not a picture", "not an image")])
def test_a_folder_without_pictures_is_refused_before_torch_works(content, says, tmp_path, monkeypatch):
    folder = tmp_path / "images"
    folder.mkdir()
    if content:
        (folder / "a.jpg").write_bytes(content)
    monkeypatch.setattr(weights, "module", lambda *a: pytest.fail("the module was built"))
    with pytest.raises(UsageError, match=says):
        build(tmp_path / "out", images=folder)


def test_a_damaged_cache_entry_is_rebuilt_and_reported(warm, capsys):
    made = build(warm)
    engine = warm / ".cache" / "compile" / made.manifest["stages"]["compile"] / "model.engine"
    os.remove(engine)
    engine.write_bytes(b"vtrt")
    again = build(warm)
    assert "built again" in capsys.readouterr().err
    assert again.built == ("compile",) and again.manifest["engine"]["sha256"] == made.manifest["engine"]["sha256"]


@pytest.mark.parametrize("name", ["parity.json", "manifest.json", "kernels.json", "model.onnx"])
@pytest.mark.parametrize("damage", [os.remove, lambda path: os.replace(path.with_name("other"), path)])
def test_a_file_of_the_bundle_that_was_lost_or_changed_is_put_back(name, damage, warm):
    path = build(warm).folder / name
    whole = path.read_bytes()
    path.with_name("other").write_bytes(b"{}")
    damage(path)
    assert not build(warm).reused and path.read_bytes() == whole


def test_an_interrupt_leaves_the_last_good_bundle_and_no_half_files(warm, monkeypatch):
    good = build(warm)
    before = (good.folder / "manifest.json").read_bytes()
    monkeypatch.setattr(fp32_parity, "run", lambda build, folder: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build(warm, batch=Batch(1, 2, 4))
    assert (good.folder / "manifest.json").read_bytes() == before
    assert not list(warm.rglob("*.tmp")) and not list((warm / ".cache" / "tmp").iterdir())


def test_two_clean_builds_are_equal_bytes(cache, tmp_path):
    names = ("model.onnx", "model.engine", "kernels.json", "../raw.onnx", "../model.fp32.onnx")
    first, second = build(cache), build(tmp_path)
    assert len(second.built) == 11
    for name in names:
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes(), name


def test_nothing_of_the_build_machine_is_in_the_files(cache):
    made = build(cache)
    for path in (made.folder / "model.onnx", made.folder.parent / "raw.onnx", made.folder / "kernels.json"):
        content = path.read_bytes()
        assert str(cache).encode() not in content and b"site-packages" not in content, path


def test_weights_over_the_single_file_limit_go_beside_the_model(tmp_path, monkeypatch):
    from exporter import onnxio

    monkeypatch.setattr(onnxio, "SINGLE_FILE_LIMIT", 100_000)
    made = build(tmp_path)
    assert made.failures == ()
    assert {"model.onnx", "model.onnx.data"} <= {p.name for p in made.folder.iterdir()}
    assert {"raw.onnx.data", "model.fp32.onnx.data"} <= {p.name for p in made.folder.parent.iterdir()}
    assert list(made.manifest["onnx"]["external_data"]) == ["model.onnx.data"]
    onnx.checker.check_model(str(made.folder / "model.onnx"), full_check=True)
    assert passport.read(made.folder)
    weights = bytearray((made.folder / "model.onnx.data").read_bytes())
    weights[1000] ^= 1
    (made.folder / "model.onnx.data").unlink()  # the cache's own file has another name for the same bytes
    (made.folder / "model.onnx.data").write_bytes(weights)
    with pytest.raises(UsageError, match=r"model\.onnx\.data is not the one that the manifest describes"):
        passport.read(made.folder)


def test_the_bundle_of_a_copying_file_system_is_recognised(warm, monkeypatch):
    def copy(source, target):
        shutil.copyfile(source, target)

    monkeypatch.setattr(bundle, "place", copy)
    build(warm)
    assert build(warm).reused


def test_a_build_is_reported_in_seconds_and_its_depth_is_measured_once(cache, monkeypatch):
    build(cache)
    monkeypatch.setitem(registry.recipes(), VIT.name, VIT)
    started = time.process_time()
    found = report.report("tiny_vit", cache, Progress(quiet=True), precisions=("fp16",))
    assert time.process_time() - started < 10 and found["bytes"] < 2_000_000
    page = cache / "tiny_vit" / "report.html"
    assert found["report"] == str(page) and found["random_weights"] == ["fp16"]
    assert found["verdicts"]["fp16"]["verdict"].startswith("graph passed, engine ")
    text = page.read_text()
    assert "Not measured yet" in text and "no differences to show" not in text and "fuse_gelu" in text

    report.report("tiny_vit", cache, Progress(quiet=True), precisions=("fp16",), depth=True)
    text = page.read_text()
    assert "Not measured yet" not in text and "after head" in text
    depth = json.loads((cache / "tiny_vit" / "fp16" / "depth.json").read_text())
    errors = {row["block"]: row["error"] for row in depth["blocks"]}
    assert {"patch_embed", "blocks.0", "blocks.1", "head"} <= set(errors) and len(depth["images"]) == 3
    assert all(1e-5 < error < 1e-2 for error in errors.values())  # FP16 rounds, and only rounds
    report.report("tiny_vit", cache, Progress(quiet=True), precisions=("fp16",), depth=True)
    assert page.read_text() == text and len(list((cache / ".cache" / "depth").iterdir())) == 1
    (cache / "tiny_vit" / "fp16" / "depth.json").unlink()


def test_the_reports_largest_difference_is_that_of_the_parity_stages(cache):
    from exporter.reporting import differences, published

    rung = build(cache).manifest["parity"]["torch/typed"]
    (bundle,) = published.find(cache, "tiny_vit", ("fp16",))[0]
    found = differences.of(cache, bundle)
    largest = max(spread.largest * spread.scale for spread in found.outputs.values())
    assert largest == pytest.approx(rung["max_abs"], rel=1e-6) and found.runs == rung["samples"]
