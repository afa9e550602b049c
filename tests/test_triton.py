"""Model repositories, and a real tritonserver on loopback that serves them."""

import concurrent.futures
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import bundles
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from PIL import Image

pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed: pip install -e '.[triton]'")
from google.protobuf import text_format
from tritonclient import grpc
from tritonclient.grpc import model_config_pb2 as pb
from tritonclient.utils import InferenceServerException

from exporter import cli, crosscheck, passport, pipeline, registry, request, runtime, samples, serving, triton, weights
from exporter.client import Client
from exporter.errors import CheckFailed, UsageError
from exporter.files import sha256_file
from exporter.progress import Progress
from exporter.reporting import tables
from exporter.reporting.published import Published
from exporter.types import ModuleSpec
from exporter.verbs import serve

NAME = "vit_digits_fp16"
TOLERANCE = 0.02
"""FP16's, as a share of the largest value."""

try:
    serving.root()
    MISSING = ""
except UsageError as error:
    MISSING = f"no tritonserver here: {error.next}"
served = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    asked = request.parse("vit_digits", target="sm80", out=str(out), batch="1:4:8")
    return pipeline.run(asked, Progress(quiet=True)).folder


def changed(bundle, tmp_path, **fields):
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | fields))
    return folder


def configured(path):
    return text_format.Parse(path.read_text(), pb.ModelConfig())


def test_the_configuration_is_the_engines(bundle, tmp_path):
    made = triton.write(bundle, tmp_path)
    assert made["model"] == NAME and made["version"] == 1 and made["backend"] == "python"
    found = configured(tmp_path / NAME / "config.pbtxt")
    assert found.max_batch_size == 8 and list(found.dynamic_batching.preferred_batch_size) == [4]
    pixels = found.input[0]
    assert (pixels.name, pixels.data_type, list(pixels.dims)) == ("pixels", pb.TYPE_FP32, [3, 32, 32])
    assert (found.output[0].name, list(found.output[0].dims)) == ("logits", [10])
    assert found.model_warmup[0].inputs["pixels"].zero_data
    assert len((tmp_path / NAME / "labels.txt").read_text().splitlines()) == 10


@pytest.mark.parametrize("backend, file", [("tensorrt_plan", "model.plan"), ("onnxruntime", "model.onnx")])
def test_other_backends_get_the_file_that_they_load(backend, file, bundle, tmp_path):
    triton.write(bundle, tmp_path, backend)
    found = configured(tmp_path / NAME / "config.pbtxt")
    assert (found.platform if backend == "tensorrt_plan" else found.backend) == backend
    source = "model.engine" if file == "model.plan" else file
    assert (tmp_path / NAME / "1" / file).read_bytes() == (bundle / source).read_bytes()


def test_a_version_is_never_overwritten(bundle, tmp_path):
    first = triton.write(bundle, tmp_path)
    before = (tmp_path / NAME / "1" / "model.py").stat().st_mtime_ns
    assert (first["version"], triton.write(bundle, tmp_path)["version"]) == (1, 2)
    assert (tmp_path / NAME / "1" / "model.py").stat().st_mtime_ns == before
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_folder_that_int_cannot_read_is_no_version(bundle, tmp_path):
    (tmp_path / "vit_digits_fp16" / "\u00b2").mkdir(parents=True)
    assert triton.write(bundle, tmp_path)["version"] == 1


def test_random_weights_failed_checks_and_damage_are_refused(bundle, tmp_path):
    random = {"kind": "random", "source": "random, seed 0", "sha256": "", "classes": 10}
    folder = changed(bundle, tmp_path / "a", weights=random)
    with pytest.raises(UsageError, match="weights are random") as caught:
        triton.write(folder, tmp_path / "models")
    assert "ALLOW_RANDOM=1" in caught.value.next and not (tmp_path / "models").exists()
    assert triton.write(folder, tmp_path / "models", allow_random=True)["version"] == 1
    with pytest.raises(CheckFailed, match="failed a check"):
        triton.write(changed(bundle, tmp_path / "b", status="failed"), tmp_path / "models")
    damaged = shutil.copytree(bundle, tmp_path / "c")
    (damaged / "model.engine").write_bytes(b"other")
    with pytest.raises(UsageError, match=r"model\.engine is not the one"):
        triton.write(damaged, tmp_path / "models")
    with pytest.raises(UsageError, match="no Triton backend"):
        triton.write(bundle, tmp_path / "models", "openvino")


# The real server


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A bundle by hand of a detector that sees the same two boxes everywhere."""
    folder = tmp_path_factory.mktemp("detector")
    constants = {
        "scores": np.array([[[9, 0, 0], [0, 3, 0]]], np.float32),
        "places": np.array([[[0.5, 0.5, 0.2, 0.4], [0.25, 0.25, 0.5, 0.5]]], np.float32),
        "zero": np.zeros(1, np.float32), "shape": np.array([-1, 1, 1]), "axes": np.array([1, 2, 3]),
    }  # fmt: skip
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"]),
        helper.make_node("Reshape", ["mean", "shape"], ["flat"]),
        helper.make_node("Mul", ["flat", "zero"], ["nothing"]),
        helper.make_node("Add", ["scores", "nothing"], ["logits"]),
        helper.make_node("Add", ["places", "nothing"], ["boxes"]),
    ]
    shapes = {"pixels": ["n", 3, 64, 64], "logits": ["n", 2, 3], "boxes": ["n", 2, 4]}
    values = {k: helper.make_tensor_value_info(k, onnx.TensorProto.FLOAT, v) for k, v in shapes.items()}
    graph = helper.make_graph(
        nodes, "detector", [values["pixels"]], [values["logits"], values["boxes"]],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    opset = helper.make_opsetid("", 22)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), folder / "model.onnx")
    (folder / "model.engine").write_bytes(b"no engine")
    hashes = {name: {"sha256": sha256_file(folder / f"model.{name}")} for name in ("onnx", "engine")}
    record = bundles.manifest(
        precision="fp32", outputs=[bundles.tensor("logits", 2, 3), bundles.tensor("boxes", 2, 4)],
        preprocessing={"mode": "squash", "crop_pct": 1.0}, onnx=hashes["onnx"] | {"external_data": {}},
        engine=hashes["engine"], weights={"kind": "checkpoint", "classes": 2},
    )  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def server(bundle, detector, tmp_path_factory):
    """(ports, repository) of a server that looks for new versions every second."""
    repository = tmp_path_factory.mktemp("models")
    triton.write(bundle, repository)
    triton.write(detector, repository)
    ports = serving.free_ports(2)
    log = repository.parent / "server.log"
    with serving.started(repository, *ports, control="poll", log=log, patience=0.5):
        yield ports, repository


@pytest.fixture
def client(server):
    with grpc.InferenceServerClient(f"127.0.0.1:{server[0][1]}") as made:
        yield made


@pytest.fixture(scope="module")
def module():
    recipe = registry.recipe("vit_digits")
    return weights.module(recipe, weights.locate(recipe, "auto"), ModuleSpec(recipe.preprocessing.size, 10))


def rows(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 3, 32, 32), np.float32)


def ask(client, pixels, **options):
    tensor = grpc.InferInput("pixels", list(pixels.shape), "FP32")
    tensor.set_data_from_numpy(pixels)
    return client.infer(NAME, [tensor], **options).as_numpy("logits")


def right(module, pixels, found):
    with torch.no_grad():
        expected = module(torch.from_numpy(pixels)).numpy()
    return np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


@served
@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_server_answers_what_torch_answers(count, client, module):
    pixels = rows(count, count)
    assert right(module, pixels, ask(client, pixels))


@served
def test_concurrent_requests_are_merged_and_each_gets_its_own_answer(client, module):
    before = client.get_inference_statistics(NAME).model_stats[0]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        inputs = [rows(1, seed) for seed in range(64)]
        answers = list(pool.map(lambda pixels: ask(client, pixels), inputs))
    assert all(right(module, pixels, found) for pixels, found in zip(inputs, answers, strict=True))
    after = client.get_inference_statistics(NAME).model_stats[0]
    runs, asked = after.execution_count - before.execution_count, after.inference_count - before.inference_count
    assert asked == 64 and runs < 64


def picture(client, raw, name=NAME):
    """The ensemble's answer for an encoded picture."""
    tensor = grpc.InferInput("image", [len(raw)], "UINT8")
    tensor.set_data_from_numpy(np.frombuffer(raw, np.uint8))
    return json.loads(client.infer(f"{name}_image", [tensor]).as_numpy("answer").tobytes())


@served
def test_photographs_get_the_answers_of_the_runtime_and_share_the_models_batches(client, bundle):
    files = [path.read_bytes() for path in samples.shipped()]
    expected = runtime.load(bundle).predict(files)
    before = client.get_inference_statistics(NAME).model_stats[0]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda i: picture(client, files[i % len(files)]), range(4 * len(files))))
    for i, found in enumerate(answers):
        wanted = expected[i % len(files)]
        assert [a["index"] for a in found] == [a["index"] for a in wanted]
        assert [a["share"] for a in found] == pytest.approx([a["share"] for a in wanted], abs=1e-5)
    after = client.get_inference_statistics(NAME).model_stats[0]
    assert after.inference_count - before.inference_count == len(answers)
    assert after.execution_count > before.execution_count


@served
def test_boxes_are_in_the_pixels_of_the_picture_that_was_sent(client, detector):
    first, second = picture(client, encoded(160, 320), "toy_fp32")
    assert (first["index"], second["index"]) == (0, 1) and first["share"] > second["share"]
    assert first["box"] == pytest.approx([128, 48, 192, 112], abs=1e-3)
    assert second["box"] == pytest.approx([0, 0, 160, 80], abs=1e-3)
    assert [first, second] == runtime.load(detector).predict([encoded(160, 320)])[0]


@served
@pytest.mark.parametrize("raw", [b"\x00", b"no image at all"])
def test_what_is_no_picture_is_that_requests_error(raw, client):
    with pytest.raises(InferenceServerException, match="not an image that can be read"):
        picture(client, raw)


@served
def test_over_http_what_is_no_picture_is_the_clients_fault(server):
    (http, _), _ = server
    url, words = f"http://127.0.0.1:{http}/v2/models/{NAME}_image/infer", {"Inference-Header-Content-Length": "0"}
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(url, b"no image at all", words))
    assert caught.value.code == 400 and b"not an image that can be read" in caught.value.read()


@served
def test_an_answer_to_no_rows_is_refused_in_words(client):
    tensors = [grpc.InferInput("logits", [0, 10], "FP32"), grpc.InferInput("size", [2], "INT32")]
    tensors[0].set_data_from_numpy(np.zeros((0, 10), np.float32))
    tensors[1].set_data_from_numpy(np.array([4, 4], np.int32))
    with pytest.raises(InferenceServerException) as caught:
        client.infer(f"{NAME}_answer", tensors)
    assert "one row" in caught.value.message() and "Traceback" not in caught.value.message()


@served
def test_an_empty_picture_a_small_one_and_a_bomb(client):
    with pytest.raises(InferenceServerException):  # the protocol itself has no tensor of no bytes
        picture(client, b"")
    assert len(picture(client, encoded(1, 1))) == 5
    with pytest.raises(InferenceServerException, match="too large to decode"):
        picture(client, encoded(20000, 20000))


def encoded(height, width):
    """A PNG of one colour."""
    raw = io.BytesIO()
    Image.new("1", (width, height)).save(raw, "png")
    return raw.getvalue()


@served
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
def test_the_lines_that_serve_prints_work_and_a_signal_ends_it(end, bundle, tmp_path):
    http, port = serving.free_ports(2)
    command = [sys.executable, "-m", "exporter", "serve", "vit_digits", "--out", str(bundle.parents[1]),
               "--http", str(http), "--grpc", str(port)]  # fmt: skip
    shutil.copy(samples.shipped()[0], tmp_path / "photo.jpg")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            lines = list(iter(process.stdout.readline, "END\n"))
            assert lines[0].startswith(f"serving {NAME}, {NAME}_answer, {NAME}_image, {NAME}_pixels on")
            shell = "".join(lines[2:]) + "END\n"
            ran = subprocess.run(["bash", "-e", "-c", shell], cwd=tmp_path, capture_output=True, text=True)
        finally:
            process.send_signal(end)
    assert (ran.returncode, process.returncode) == (0, 0), ran.stderr
    wanted = runtime.load(bundle).predict([tmp_path / "photo.jpg"])[0]
    curl, python = ran.stdout.splitlines()
    assert f'[{{"index": {wanted[0]["index"]}, "label": "{wanted[0]["label"]}"' in curl
    assert python.startswith(f"[{{'index': {wanted[0]['index']}, 'label': '{wanted[0]['label']}'")
    assert not serving.is_ready(http)


@served
@pytest.mark.parametrize("shape, kind, name, says", [
    ([1, 3, 32, 31], "FP32", "pixels", "shape"), ([1, 3, 32, 32], "INT32", "pixels", "type"),
    ([1, 3, 32, 32], "FP32", "image", "image"), ([9, 3, 32, 32], "FP32", "pixels", "batch"),
])  # fmt: skip
def test_wrong_requests_are_refused_in_words(shape, kind, name, says, client):
    tensor = grpc.InferInput(name, shape, kind)
    tensor.set_data_from_numpy(np.zeros(shape, np.float32 if kind == "FP32" else np.int32))
    with pytest.raises(InferenceServerException, match=says):
        client.infer(NAME, [tensor])


@served
def test_the_lines_for_a_model_without_an_ensemble_work(server):
    (http, _), repository = server
    shell = serve.words(repository, [NAME], http)
    ran = subprocess.run(["bash", "-e", "-c", shell], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert f'"name":"{NAME}"' in ran.stdout and ran.stdout.rstrip().endswith("[1, 10]")


def test_there_must_be_something_to_serve(tmp_path):
    with pytest.raises(UsageError, match="nothing to serve") as caught:
        serve._models(tmp_path)
    assert caught.value.next.startswith("make serve MODEL=<model>")


@served
def test_a_request_that_is_wrong_is_not_asked_again(server):
    with Client(server[0][1], NAME, "pixels", "logits") as asking:
        with pytest.raises(InferenceServerException, match="shape"):
            asking.infer(np.zeros((1, 3, 32, 31), np.float32))
        assert asking.retried == 0
        assert asking.answer(rows(3))[1].shape == (3, 10) and asking.retried == 0
    with Client(server[0][1], "nobody", "pixels", "logits") as asking:
        with pytest.raises(InferenceServerException, match="unknown model"):
            asking.infer(rows(1))
        assert asking.retried == 0


def test_a_server_that_is_away_is_asked_until_the_patience_ends():
    began = time.monotonic()
    with Client(serving.free_ports(1)[0], NAME, "pixels", "logits", patience=0.5) as asking:
        with pytest.raises(InferenceServerException):
            asking.infer(rows(1))
        assert asking.retried > 1 and 0.4 < time.monotonic() - began < 5


@served
def test_clients_cannot_load_models_or_map_memory(client):
    for call in (client.get_model_repository_index, client.get_system_shared_memory_status):
        with pytest.raises(InferenceServerException, match="restricted"):
            call()


@served
def test_a_new_version_takes_over_and_a_broken_one_does_not_while_requests_run(server, client, module, bundle):
    (http, _), repository = server
    pixels, wrong, lost, end = rows(2), 0, 0, time.monotonic() + 60
    photo = samples.shipped()[0].read_bytes()
    expected = picture(client, photo)
    triton.write(bundle, repository)
    versions = []
    while time.monotonic() < end and versions != ["2"]:
        try:
            wrong += not right(module, pixels, ask(client, pixels))
            wrong += [a["index"] for a in picture(client, photo)] != [a["index"] for a in expected]
        except InferenceServerException:
            lost += 1
        versions = [stats.version for stats in client.get_inference_statistics(NAME).model_stats]
    assert versions == ["2"] and (wrong, lost) == (0, 0)
    broken = shutil.copytree(repository / NAME / "2", repository.parent / "broken")
    (broken / "bundle" / "model.onnx").write_bytes(b"other")
    broken.rename(repository / NAME / "3")
    end, log = time.monotonic() + 60, repository.parent / "server.log"
    while time.monotonic() < end and "model.onnx is not the one" not in log.read_text():
        assert right(module, pixels, ask(client, pixels)) and serving.is_ready(http, NAME)
    for _ in range(10):
        assert right(module, pixels, ask(client, pixels)) and serving.is_ready(http, NAME)
        time.sleep(0.1)
    assert "model.onnx is not the one" in log.read_text()
    shutil.rmtree(repository / NAME / "3")


@pytest.fixture(scope="module")
def endurance():
    """benchmarks/endurance.py, which is no package."""
    spec = importlib.util.spec_from_file_location(
        "bench_endurance", Path(__file__).parents[1] / "benchmarks/endurance.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@served
def test_no_answer_is_lost_or_wrong_across_a_new_version_a_dead_worker_and_a_dead_server(endurance, bundle, tmp_path):
    tally = endurance.run(bundle, tmp_path, requests=400, clients=4, note=lambda text: None)
    assert tally.asked >= 400 and (tally.lost, tally.wrong) == (0, 0)
    assert set(tally.versions) == {1, 2} and sum(tally.versions.values()) == tally.asked
    assert "worker" in tally.restarts[0] and "signal 9" in tally.restarts[1] and len(tally.restarts) == 2
    assert tally.retried > 0
    assert len({p.name.split("_")[2][:8] for p in Path("/dev/shm").glob(f"vit_{os.getpid()}_*")}) <= 1  # the fixture's


def test_a_wrong_answer_and_a_lost_one_are_counted(endurance):
    class Faulty:
        retried, answers = 0, iter([(1, [[0.0, 1.0]]), (2, [[0.0, -1.0]]), (1, [[1.0, 0.0]]), None])

        def answer(self, rows):
            version, found = next(self.answers)
            return version, np.array(found)

    trial = endurance.Trial(np.zeros((1, 3)), np.array([[0.0, 1.0]]), 4, [], print)
    trial.work(Faulty())
    assert (trial.tally.asked, trial.tally.lost, trial.tally.wrong, trial.tally.versions) == (4, 1, 1, {1: 2, 2: 1})


@served
@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine")
def test_every_runtime_answers_the_same_photographs_as_torch_does_and_a_rebuild_keeps_that(bundle, tmp_path):
    out = Path(shutil.copytree(bundle.parents[1], tmp_path / "out"))
    folder = out / "vit_digits" / "fp16"
    found = crosscheck.check(folder, out, Progress(quiet=True), weights="auto")
    assert {name: way["status"] for name, way in found["ways"].items()} == dict.fromkeys(
        ("onnxruntime", "served", "ensemble", "cpp"), "passed"
    )
    assert len(found["images"]) == found["ways"]["served"]["samples"] == len(samples.shipped())
    assert found["ways"]["served"]["from_onnxruntime"] < 1e-5 and found["ways"]["cpp"]["pixels"] < 1e-5
    assert json.loads((folder / "crosscheck.json").read_text()) == found
    assert passport.read(folder).manifest["cross_runtime"] == found["ways"]
    again = pipeline.run(request.parse("vit_digits", target="sm80", out=str(out), batch="1:4:8"), Progress(quiet=True))
    assert again.reused and again.manifest["cross_runtime"] == found["ways"]


def test_a_runtime_that_answers_otherwise_fails_and_what_is_missing_is_not_run(
    endurance, bundle, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("TRITON_ROOT", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    folder = endurance.negated(bundle, tmp_path / "vit_digits" / "fp16")
    words = ["crosscheck", "vit_digits", "--out", str(tmp_path), "--weights", "auto", "--quiet"]
    assert cli.main(words) == 1
    ways = json.loads((folder / "crosscheck.json").read_text())["ways"]
    assert ways["onnxruntime"]["status"] == "failed" and ways["onnxruntime"]["relative_max"] > 1
    assert {name: way["status"] for name, way in ways.items() if name != "onnxruntime"} == dict.fromkeys(
        ("served", "ensemble", "cpp"), "not run"
    )
    assert ways["served"]["why"] == "there is no tritonserver" and "no C++ compiler" in ways["cpp"]["why"]
    said = capsys.readouterr()
    assert "error: onnxruntime: logits: outside the tolerance of the build" in said.err
    assert said.out.count("not run") == 3


def test_the_report_shows_every_runtime(bundle):
    way = {"status": "passed", "why": "", "samples": 6, "relative_max": 1e-3, "cosine": 0.9999, "top1_agreement": 1.0}
    manifest = json.loads((bundle / "manifest.json").read_text()) | {
        "cross_runtime": {"served": way, "cpp": {"status": "not run", "why": "no compiler", "samples": 0}}
    }
    found = tables.runtimes([Published("fp16", bundle, manifest)])
    assert [row[1:4] for row in found.rows] == [
        ("tritonserver, pixels", "passed", "1.0e-03"), ("C++ preprocessing", "not run", ""),
    ]  # fmt: skip
    assert found.rows[1][-1] == "no compiler" and tables.runtimes([]) is None


@served
def test_a_repository_that_cannot_be_served_says_why(bundle, tmp_path):
    triton.write(bundle, tmp_path, pictures=False)
    (tmp_path / NAME / "1" / "bundle" / "model.onnx").write_bytes(b"other")
    with pytest.raises(UsageError, match="does not start") as caught, serving.started(tmp_path, *serving.free_ports(2)):
        pass
    assert "model.onnx is not the one" in str(caught.value.found)
