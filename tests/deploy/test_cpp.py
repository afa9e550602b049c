"""The C++ headers of deploy/cpp that need no TensorRT: compiled with warnings as errors, and compared with Python's."""

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import bundles
import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from calibration import images
from exporter import cpp, latency, samples
from exporter.errors import CheckFailed, UsageError
from exporter.passport import Passport
from exporter.runtime import Model

ROOT = Path(__file__).parents[2]
FLAGS = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'deploy' / 'cpp' / 'include'}"]
ENGINE = b"an engine" * 1000
LABELS = ['a "quoted\\" label', "ünï ??/", "plain"]

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine")


def bundle(folder, **changes) -> Path:
    """A bundle by hand whose files are those of its manifest."""
    files = {"model.onnx": b"a graph", "model.engine": ENGINE}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    record = bundles.manifest(**{
        "weights": {"kind": "checkpoint", "source": "mine.safetensors", "classes": 10},
        "inputs": [{"name": "pixels", "dtype": "float32", "shape": ["batch", 3, 64, 64]}],
        "outputs": [{"name": "logits", "dtype": "float16", "shape": ["batch", 10]}],
        "preprocessing": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        "onnx": {"sha256": hashes["model.onnx"]},
        "engine": {"sha256": hashes["model.engine"], "bytes": len(ENGINE), "backend_version": "1.7.1.116"},
    } | changes)  # fmt: skip
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "manifest.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    """Runs the compiled headers by a verb; the standard output as JSON, or what was said of an error."""
    folder = tmp_path_factory.mktemp("cpp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exporter.labels.of", lambda manifest: LABELS)
        cpp.write(bundle(folder / "bundle"), folder)
    program = folder / "units"
    source = Path(__file__).with_name("units.cpp")
    done = subprocess.run(["g++", *FLAGS, f"-I{folder}", source, "-o", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    def run(*words, fails=False):
        found = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
        assert found.returncode == (2 if fails else 0), found.stderr
        return found.stderr if fails else found.stdout.strip()

    run.manifest = json.loads((folder / "bundle" / "manifest.json").read_text())
    return run


def test_the_header_says_what_the_manifest_says(units):
    said, manifest = json.loads(units("info")), units.manifest
    assert said["labels"] == LABELS
    assert said["rebuild"] == "make engine MODEL=toy PRECISION=fp16 WEIGHTS=mine.safetensors"
    assert (said["sha256"], said["bytes"]) == (manifest["engine"]["sha256"], len(ENGINE))
    for key in ("backend", "backend_version", "targets"):
        assert said[key] == manifest["engine"][key]
    assert said["batch"] == [manifest["batch"][key] for key in ("min", "opt", "max")]
    for kind in ("inputs", "outputs"):
        assert said[kind] == [t | {"shape": t["shape"][1:]} for t in manifest[kind]]
    how = manifest["preprocessing"]
    assert {key: said[key] for key in ("size", "interpolation", "crop_pct", "mode")} == {
        key: how[key] for key in ("size", "interpolation", "crop_pct", "mode")
    }
    for key in ("mean", "std"):
        assert np.array_equal(np.float32(said[key]), np.float32(how[key]))


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000])
def test_sha256_is_hashlibs(units, tmp_path, size):
    data = bytes(i * 7 % 256 for i in range(size))
    (tmp_path / "data").write_bytes(data)
    for piece in (1, 64, 100):
        assert units("sha256", tmp_path / "data", piece) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size, interpolation, crop_pct, mode", [
    ((224, 224), "bicubic", 0.9, "crop"), ((224, 224), "bilinear", 0.875, "crop"),
    ((800, 800), "bilinear", 1.0, "squash"), ((96, 160), "lanczos", 0.95, "crop"), ((64, 64), "nearest", 1.0, "squash"),
    ((48, 48), "bicubic", 1.2, "crop"),
])  # fmt: skip
def test_preprocessing_is_pythons_on_photographs(units, tmp_path, size, interpolation, crop_pct, mode):
    how = replace(Passport(tmp_path, units.manifest).preprocessing, size=size, interpolation=interpolation,
                  crop_pct=crop_pct, mode=mode)  # fmt: skip
    pictures = [images.decode(path) for path in samples.shipped()]
    words = []
    for i, picture in enumerate(pictures):
        kind = ("ppm", "png")[i % 2]
        picture.save(tmp_path / f"{i}.{kind}")
        words += [tmp_path / f"{i}.{kind}", tmp_path / f"{i}.bin"]
    units("preprocess", *size, interpolation, crop_pct, mode, *words)
    assert len(pictures) >= 6
    for i, picture in enumerate(pictures):
        found = np.fromfile(tmp_path / f"{i}.bin", np.float32).reshape(3, *size)
        # 1e-3 is what is asked for; one level of 255 would be 0.017, so this holds only where every pixel is the same.
        assert np.abs(found - images.preprocess(picture, how)).max() < 1e-5


@pytest.mark.parametrize("size, crop_pct, mode", [
    ((224, 224), 0.9, "crop"), ((800, 800), 1.0, "squash"), ((800, 800), 0.8, "squash"), ((96, 160), 0.95, "crop"),
])  # fmt: skip
def test_what_the_model_sees_of_a_picture_is_pythons(units, tmp_path, size, crop_pct, mode):
    how = replace(Passport(tmp_path, units.manifest).preprocessing, size=size, crop_pct=crop_pct, mode=mode)
    for picture in ((480, 640), (301, 77), (1, 1)):
        found = json.loads(units("window", *size, crop_pct, mode, *picture))
        np.testing.assert_allclose(found, images.window(picture, how), rtol=1e-12)


@pytest.mark.parametrize("dtype, numpy_type", [("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)])
def test_sixteen_bits_are_rounded_as_numpy_does(units, tmp_path, dtype, numpy_type):
    rng = np.random.default_rng(0)
    every = rng.integers(0, 1 << 32, 200_000, dtype=np.uint32).view(np.float32)
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    edges = np.float32([0, -0.0, 65504, 65519.99, 65520, 2**-24, 2**-25, 1.5 * 2**-25, 2**-14, 1.0005, np.inf, -np.inf])
    wide = np.concatenate([every, halves, edges, rng.standard_normal(10_000, np.float32)])
    wide = wide[~np.isnan(wide)]
    wide.tofile(tmp_path / "in")
    units("narrow", dtype, tmp_path / "in", tmp_path / "out", tmp_path / "back")
    with np.errstate(over="ignore"):
        expected = wide.astype(numpy_type)
    assert np.array_equal(np.fromfile(tmp_path / "out", np.uint16), expected.view(np.uint16))
    assert np.array_equal(np.fromfile(tmp_path / "back", np.float32), expected.astype(np.float32))


def test_a_damaged_engine_is_refused_with_the_command_that_rebuilds_it(units, tmp_path):
    path = tmp_path / "model.engine"
    path.write_bytes(ENGINE)
    assert units("engine", path) == str(len(ENGINE))
    flipped = bytes([ENGINE[0] ^ 1]) + ENGINE[1:]
    for data, why in ((ENGINE[:-1], f"{len(ENGINE) - 1} bytes"), (flipped, hashlib.sha256(flipped).hexdigest())):
        path.write_bytes(data)
        said = units("engine", path, fails=True)
        assert why in said and "make engine MODEL=toy PRECISION=fp16" in said
    assert "cannot be opened" in units("engine", tmp_path / "none", fails=True)


@pytest.mark.parametrize("words, found, command", [
    (("library", 1, 8, 0), "tensorrt-rtx 1.8.0 where engines", "make engine"),
    (("library", 11, 1, 0), "tensorrt 11.1.0", "BACKEND=tensorrt"), (("gpu", 12, 0), "sm120", "TARGET=sm80,sm89,sm120"),
    (("gpu", 9, 0), "sm90", "BACKEND=tensorrt"), (("batch", 6), "6 images", "BATCH=1:2:6"),
    (("batch", 0), "0", "BATCH="),
])  # fmt: skip
def test_another_library_gpu_or_batch_is_refused_with_a_command(units, words, found, command):
    said = units(*words, fails=True)
    assert found in said and command in said and "make engine MODEL=toy" in said


def test_the_right_library_gpu_and_batch_pass(units):
    for words in (("library", 1, 7, 1), ("gpu", 8, 0), ("gpu", 8, 9), ("batch", 1), ("batch", 5)):
        assert units(*words) == ""


@pytest.mark.parametrize("count", [1, 2, 9, 100, 101, 1000])
def test_statistics_are_the_python_sides(units, tmp_path, count):
    values = np.random.default_rng(count).random(count, np.float32)
    values.tofile(tmp_path / "ms")
    s = latency.summary([float(v) / 1e3 for v in values])
    expected = [s.queries, s.min, s.mean, s.p50, s.p90, s.p95, s.p99, s.max]
    np.testing.assert_allclose(json.loads(units("summary", tmp_path / "ms")), expected, rtol=1e-12)


def test_queries_run_for_the_duration_and_at_least_the_iterations(units):
    assert json.loads(units("measure", 200, 3, 10, 50)) == [4, 60, 3]
    assert json.loads(units("measure", 0, 0, 10, 50)) == [1, 10, 0.5]


def test_answers_are_the_runtimes(units, tmp_path):
    rng = np.random.default_rng(0)
    logits, boxes = rng.standard_normal((7, 11), np.float32), rng.random((7, 4), np.float32)
    logits.tofile(tmp_path / "logits")
    boxes.tofile(tmp_path / "boxes")
    logits[0].tofile(tmp_path / "row")
    model = Model(Passport(tmp_path, units.manifest), "", [], None)
    for found, expected in (
        (units("classes", tmp_path / "row", 5), model._classes({"logits": logits[0]}, 5)),
        (
            units("boxes", tmp_path / "logits", tmp_path / "boxes", 5),
            model._boxes({"logits": logits, "boxes": boxes}, 5),
        ),
    ):
        found = json.loads(found)
        assert [row[0] for row in found] == [row["index"] for row in expected]
        np.testing.assert_allclose([row[1] for row in found], [row["share"] for row in expected], rtol=1e-6)
        np.testing.assert_allclose([r[2] for r in found], [r.get("box", [0] * 4) for r in expected], atol=1e-6)


@pytest.mark.parametrize("data, why", [
    (b"", "an empty file"), (b"\x89PNG....", "begins as none of them"), (b"\xff\xd8\xff\xe0", "a JPEG file"),
    (b"P6\n2 2\n255\n123", "3 of 12 bytes"),
    (b"P6\n20000 20000\n255\n", "too large"), (b"P6\n0 5\n255\n", "damaged header"), (b"P6 x", "damaged header"),
    (b"P6\n99999999999999999999 1\n255\n", "damaged header"),
])  # fmt: skip
def test_what_is_no_picture_is_said(units, tmp_path, data, why):
    (tmp_path / "a.ppm").write_bytes(data)
    assert why in units("preprocess", 8, 8, "bicubic", 1, "crop", tmp_path / "a.ppm", tmp_path / "out", fails=True)


@pytest.mark.parametrize(
    "data", [b"P6\n# a comment\n1 1\n255\nabc", b"P5 2 1 255 \x05\xf0", b"P6 1 1 100\n\x00\x32\x64"]
)
def test_small_and_odd_pictures_are_pillows(units, tmp_path, data):
    (tmp_path / "a.ppm").write_bytes(data)
    units("preprocess", 8, 8, "bicubic", 1, "squash", tmp_path / "a.ppm", tmp_path / "out")
    how = replace(Passport(tmp_path, units.manifest).preprocessing, size=(8, 8), crop_pct=1.0, mode="squash")
    expected = images.preprocess(Image.open(tmp_path / "a.ppm").convert("RGB"), how)
    assert np.abs(np.fromfile(tmp_path / "out", np.float32).reshape(3, 8, 8) - expected).max() < 1e-5


@pytest.mark.skipif(
    "TENSORRT_ROOT" not in os.environ,
    reason="TENSORRT_ROOT is not set: a folder with include/NvInfer.h (CUDA_ROOT: with cuda_runtime_api.h, libcudart)",
)
def test_the_programs_compile_link_and_say_that_there_is_no_driver(tmp_path):
    import tensorrt_rtx_libs

    from exporter.backends import tensorrt

    folder = bundle(tmp_path / "bundle")
    library = Path(tensorrt_rtx_libs.__file__).with_name("libtensorrt_rtx.so.1")
    cpp.write(folder, tmp_path)
    options = {"MODEL_INFO": tmp_path, "TENSORRT_ROOT": os.environ["TENSORRT_ROOT"], "TENSORRT_LIBRARY": library,
               "CUDA_ROOT": os.environ.get("CUDA_ROOT", "/usr/local/cuda"), "CMAKE_BUILD_TYPE": "Debug"}  # fmt: skip
    words = [f"-D{name}={value}" for name, value in options.items()]
    for command in (["cmake", "-S", ROOT / "deploy" / "cpp", "-B", tmp_path / "b", *words],
                    ["cmake", "--build", tmp_path / "b"]):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    if tensorrt.cuda_device()[0] is None:
        for program, more in (("classify", ["a.ppm"]), ("bench", [])):
            words = [tmp_path / "b" / program, folder / "model.engine", *more]
            done = subprocess.run(words, capture_output=True, text=True)
            assert done.returncode == 2
            assert "there is no CUDA driver" in done.stderr and done.stderr.count("\n") == 1


def test_bundles_that_must_not_be_served_are_refused(tmp_path):
    random = bundle(
        tmp_path / "random", weights={"kind": "random", "source": "random, seed 0", "sha256": "", "classes": 10}
    )
    with pytest.raises(UsageError, match="random"):
        cpp.write(random, tmp_path)
    assert Path(cpp.write(random, tmp_path / "new", allow_random=True)["header"]).is_file()
    with pytest.raises(CheckFailed, match="failed a check"):
        cpp.write(bundle(tmp_path / "failed", status="failed", failures=[{"what": "parity"}]), tmp_path)
    (random / "model.engine").write_bytes(ENGINE[:-1])
    with pytest.raises(UsageError, match=r"model\.engine"):
        cpp.write(random, tmp_path, allow_random=True)


def test_a_model_of_clips_is_refused(tmp_path):
    clips = bundle(tmp_path / "clips", preprocessing={"mean": [0.45] * 3, "std": [0.225] * 3, "frames": 16},
                   inputs=[{"name": "pixels", "dtype": "float32", "shape": ["batch", 3, 16, 64, 64]}])  # fmt: skip
    with pytest.raises(UsageError, match="one picture at a time") as caught:
        cpp.write(clips, tmp_path)
    assert "16 frames" in caught.value.found and "make triton" in caught.value.next
