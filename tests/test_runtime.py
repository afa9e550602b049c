import json
import shutil

import bundles
import numpy as np
import pytest
import torch
from PIL import Image

from exporter import passport, pipeline, registry, request, runtime, samples, weights
from exporter.backends import tensorrt
from exporter.errors import UsageError
from exporter.progress import Progress
from exporter.types import ModuleSpec

MODEL = "vit_digits"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return pipeline.run(request.parse(MODEL, target="sm80", out=str(out), batch="1:2:4"), Progress(quiet=True)).folder


@pytest.fixture(scope="module")
def model(bundle):
    return runtime.load(bundle)


@pytest.fixture(scope="module")
def module():
    recipe = registry.recipe(MODEL)
    return weights.module(recipe, weights.locate(recipe, "auto"), ModuleSpec(recipe.preprocessing.size, 10))


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_the_answers_are_torchs_at_any_number_of_images(count, model, module):
    pixels = np.random.default_rng(count).standard_normal((count, 3, 32, 32), np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(pixels)).numpy()
    found = model.infer(pixels)["logits"]
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() / np.abs(expected).max() < 0.02  # FP16's tolerance


def test_it_says_what_runs(model):
    assert model.runs.startswith(("the numerics twin of model.onnx on the CPU: no CUDA", "the engine on"))


def test_pictures_may_be_files_bytes_or_images(model):
    path = samples.shipped()[0]
    answers = model.predict([path, path.read_bytes(), Image.open(path)], top=3)
    assert answers[0] == answers[1] == answers[2] and len(answers[0]) == 3
    shares = [answer["share"] for answer in answers[0]]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1


@pytest.mark.parametrize("raw", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"0" * 50])
def test_what_is_no_picture_is_named_by_its_size(raw, model):
    with pytest.raises(UsageError, match=f"the picture of {len(raw)} bytes"):
        model.predict([raw])


def test_boxes_are_corners(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["outputs"] = [{"name": "logits"}, {"name": "boxes"}]
    logits = np.full((1, 5, 3), -9.0, np.float32)
    logits[0, 2, 1] = 9.0
    boxes = np.tile(np.array([0.5, 0.5, 0.2, 0.4], np.float32), (1, 5, 1))
    made = runtime.Model(
        runtime.Passport(bundle, manifest), "", ["cat", "dog"], lambda pixels: {"logits": logits, "boxes": boxes}
    )
    (first,) = made.predict([Image.new("RGB", (320, 160))], top=1)[0]
    assert (first["index"], first["label"]) == (1, "dog")
    assert first["box"] == pytest.approx([144, 48, 176, 112])  # of the square of 160 pixels in the middle
    manifest["preprocessing"]["mode"] = "squash"
    (first,) = made.predict([Image.new("RGB", (320, 160))], top=1)[0]
    assert first["box"] == pytest.approx([128, 48, 192, 112])


def test_a_batch_that_is_smaller_than_the_profiles_runs_beside_empty_rows(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text()) | {"batch": {"min": 4, "opt": 4, "max": 4}}
    seen = []

    def run(pixels):
        seen.append(len(pixels))
        return {"logits": pixels[:, 0, 0]}

    made = runtime.Model(runtime.Passport(bundle, manifest), "", [], run)
    rows = np.random.default_rng(0).standard_normal((6, 3, 32, 32), np.float32)
    assert np.array_equal(made.infer(rows)["logits"], rows[:, 0, 0]) and seen == [4, 4]


def test_parts_that_run_as_one_batch_get_their_own_rows(model):
    rows = np.random.default_rng(0).standard_normal((4, 3, 32, 32), np.float32)
    parts = model.infer_parts([rows[:1], rows[1:4]])
    assert [len(part["logits"]) for part in parts] == [1, 3]
    whole = np.concatenate([part["logits"] for part in parts])
    assert np.abs(whole - model.infer(rows)["logits"]).max() == 0


def copied(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "bundle")


@pytest.mark.parametrize("name", ["model.onnx", "model.engine"])
@pytest.mark.parametrize("harm", ["flip", "cut", "none"])
def test_a_file_that_is_not_the_manifests_is_not_loaded(name, harm, bundle, tmp_path):
    folder = copied(bundle, tmp_path)
    raw = bytearray((folder / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / name).unlink()
    if harm != "none":
        (folder / name).write_bytes(raw if harm == "flip" else raw[:-1])
    with pytest.raises(UsageError, match=f"{name} is not the one") as caught:
        runtime.load(folder)
    assert caught.value.next == f"make engine MODEL={MODEL} PRECISION=fp16"


@pytest.mark.parametrize("text, says", [
    (None, "is no bundle"), ("{", "cannot be read"), ("[]", "cannot be read"),
    ('{"schema": 0, "model": "m", "precision": "fp16"}', "another version"),
])  # fmt: skip
def test_a_folder_that_is_no_bundle(text, says, bundle, tmp_path):
    folder = copied(bundle, tmp_path)
    (folder / "manifest.json").unlink()
    if text is not None:
        (folder / "manifest.json").write_text(text)
    with pytest.raises(UsageError, match=says):
        runtime.load(folder)


def test_the_manifest_of_another_model_is_not_this_bundles(bundle, tmp_path):
    folder = copied(bundle, tmp_path)
    (folder / "manifest.json").write_text(json.dumps(bundles.manifest(model="swin_digits")))
    with pytest.raises(UsageError, match=r"model\.onnx is not the one") as caught:
        runtime.load(folder)
    assert caught.value.next == "make engine MODEL=swin_digits PRECISION=fp16"


def test_an_engine_for_another_gpu_is_not_run_and_that_is_said(bundle, monkeypatch):
    monkeypatch.setattr(tensorrt, "cuda_device", lambda: ("sm90", ""))
    assert runtime.load(bundle).runs.endswith("on the CPU: the engine is for sm80, the GPU here is sm90")


@pytest.mark.parametrize("installed, same", [("1.7.1.116", True), ("1.7.1.9", True), ("1.8.0.3", False), ("2", False)])
def test_an_engine_of_another_library_version_is_refused_before_it_is_deserialised(
    installed, same, bundle, tmp_path, monkeypatch
):
    folder = copied(bundle, tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["engine"]["backend_version"] = "1.7.1.116"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(tensorrt, "cuda_device", lambda: ("sm80", ""))
    monkeypatch.setattr(tensorrt, "version", lambda backend: installed)
    monkeypatch.setattr(runtime, "_on_gpu", lambda bundle: lambda pixels: {})
    if same:
        assert runtime.load(folder).runs == "the engine on this machine's sm80"
        return
    with pytest.raises(UsageError, match="another version of tensorrt-rtx") as caught:
        runtime.load(folder)
    assert installed in caught.value.found and caught.value.expected == "1.7.1.116"
    assert caught.value.next.startswith(f"make engine MODEL={MODEL} PRECISION=fp16")


def test_a_picture_of_one_pixel_is_answered_and_a_bomb_refused(model, tmp_path):
    assert len(model.predict([Image.new("RGB", (1, 1))])[0]) == 5
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    for picture in (tmp_path / "bomb.png", (tmp_path / "bomb.png").read_bytes()):
        with pytest.raises(UsageError, match="too large to decode"):
            model.predict([picture])


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda m: m.update(precision="../../evil"), "precision is '../../evil'"),
        (lambda m: m["onnx"].update(external_data={"../../etc/passwd": "a" * 64}), "no file of the bundle"),
        (lambda m: m["onnx"].update(external_data={"nothing.data": "a" * 64}), "no file of the bundle"),
        (lambda m: m["onnx"].update(external_data=5), "external_data"),
        (lambda m: m["onnx"].pop("external_data"), "external_data"),
        (lambda m: m["batch"].update(min=9, max=4), "rising order"),
        (lambda m: m["preprocessing"].update(std=[0.5, 0.0, 0.5]), "std (0.5, 0.0, 0.5)"),
        (lambda m: m["preprocessing"].update(crop_pct=-1.0), "crop_pct -1.0"),
        (lambda m: m["preprocessing"].update(interpolation="magic"), "magic"),
        (lambda m: m["preprocessing"].update(mode="magic"), "mode 'magic'"),
        (lambda m: m["preprocessing"].update(size=[9, 9]), "preprocessing makes (3, 9, 9) of an image"),
    ],
)
def test_a_manifest_is_one_that_a_build_can_have_written(edit, says, bundle, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    edit(manifest)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="manifest") as caught:
        runtime.load(copy)
    assert says in caught.value.found


def test_a_detector_answers_boxes():
    assert passport.detects({"outputs": [{"name": "logits"}, {"name": "boxes"}]})
    assert not passport.detects({"outputs": [{"name": "logits"}]})
