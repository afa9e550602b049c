"""``make bench`` on a bundle of the digits' ViT, on the CPU."""

import json
import shutil
import types

import pytest

from exporter import bench, bench_report, benched, cli, pipeline, request, subject
from exporter.backends import tensorrt
from exporter.errors import UsageError
from exporter.progress import Progress
from exporter.timing import Plan

QUICK = Plan(0, 0, 8)
MODEL = "vit_digits"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    asked = request.parse(MODEL, "fp32", target="sm80", batch="1:2:4", out=str(folder))
    assert pipeline.run(asked, Progress(quiet=True)).failures == ()
    return folder


def measured(out, **fields):
    return bench.bench(bench.Asked(MODEL, "fp32", out, plan=QUICK, **fields), Progress(quiet=True))


@pytest.fixture(scope="module")
def found(out):
    return measured(out, batches=(1, 4), against=("onnx-plain", "torch"))


def test_the_result_lies_in_the_bundle_and_is_what_was_returned(out, found):
    path = out / MODEL / "fp32" / "bench.onnxruntime.json"
    assert json.loads(path.read_text()) == found and found["written"] == str(path)
    assert {"schema", "tool", "machine", "plan", "seed", "when", "engine_sha256", "command"} <= set(found)


def test_every_contender_ran_in_turns_with_ours(found):
    assert [row["batch"] for row in found["batches"]] == [1, 4]
    for row in found["batches"]:
        assert list(row["contenders"]) == ["ours", "onnx-plain", "torch"] and set(row["ratios"]) == {
            "onnx-plain",
            "torch",
        }
        for c in row["contenders"].values():
            t = c["milliseconds"]["latency"]
            assert t["queries"] == 8 and 0 < t["min"] <= t["p50"] <= t["p99"] <= t["max"] and c["versions"]
            assert c["images_per_second"] == pytest.approx(row["batch"] * c["queries_per_second"], rel=1e-3)
        assert all(r["pairs"] == 8 and r["verdict"] for r in row["ratios"].values())


def test_contenders_answer_the_same(found):
    for row in found["batches"]:
        assert row["contenders"]["onnx-plain"]["difference"] < 1e-4 and row["contenders"]["torch"]["difference"] < 1e-4
        assert row["contenders"]["ours"]["difference"] is None


def test_the_cpu_is_said_plainly(found, capsys):
    assert found["backend"] == "onnxruntime" and found["why_not_gpu"]
    bench_report.shown(found)
    text = capsys.readouterr().out
    assert "NOT the engine" in text and found["why_not_gpu"] in text and "says nothing of a GPU's speed" in text
    for word in ("p50", "p99", "onnx-plain", "times as fast", "written:"):
        assert word in text


def test_a_noisy_run_and_other_answers_are_said(found, capsys):
    row = found["batches"][0]
    wrong = row["contenders"] | {"torch": row["contenders"]["torch"] | {"difference": 0.4}}
    noisy = found | {"batches": [row | {"noisy": ["other processes kept 0.80 cores busy"], "contenders": wrong}]}
    bench_report.shown(noisy | {"built_by": "0.0.1"})
    text = capsys.readouterr().out
    assert "NOISY at batch 1: other processes" in text and "torch answers otherwise" in text
    assert "OTHER VERSION: the bundle is of vit-exporter 0.0.1" in text


def test_a_contender_that_computes_something_else_is_found(out, monkeypatch):
    real = subject.contender
    liar = types.SimpleNamespace(
        COMPUTES="lies", PACKAGES=(), make=lambda what: (run := real("ours").make(what)) and (lambda: [2 * run()[0]])
    )
    monkeypatch.setattr(subject, "contender", lambda name: liar if name == "onnxsim" else real(name))
    row = measured(out, against=("onnxsim",))["batches"][0]
    assert row["batch"] == 2 and row["contenders"]["onnxsim"]["difference"] == pytest.approx(1.0, rel=1e-3)


def test_without_an_engine_the_next_command_builds_it(tmp_path):
    with pytest.raises(UsageError, match="no engine to measure") as caught:
        benched.find(MODEL, "fp16", tmp_path)
    assert caught.value.next == f"make engine MODEL={MODEL} PRECISION=fp16 OUT={tmp_path}"


def test_a_failed_build_is_named(tmp_path):
    (tmp_path / MODEL / "fp16.failed").mkdir(parents=True)
    with pytest.raises(UsageError) as caught:
        benched.find(MODEL, "fp16", tmp_path)
    assert "the last build failed a check" in caught.value.found


@pytest.mark.parametrize("spoil, says", [
    (lambda folder: (folder / "manifest.json").write_text("{}"), "cannot be read"),
    (lambda folder: (folder / "manifest.json").write_text("[1"), "cannot be read"),
    (lambda folder: (folder / "model.onnx").write_bytes(b"other"), "not what its manifest says"),
    (lambda folder: (folder / "model.engine").unlink(), "no engine to measure"),
    (lambda folder: (folder.parent / "raw.onnx").unlink(), "shared graphs"),
])  # fmt: skip
def test_a_spoilt_bundle_is_refused_with_what_to_build(out, tmp_path, spoil, says):
    shutil.copytree(out / MODEL, tmp_path / MODEL)
    spoil(tmp_path / MODEL / "fp32")
    with pytest.raises(UsageError, match=says) as caught:
        benched.find(MODEL, "fp32", tmp_path)
    assert "make engine" in caught.value.next


def test_a_batch_outside_of_the_profile_is_refused(out):
    with pytest.raises(UsageError, match="takes no batch of 5") as caught:
        measured(out, batches=(1, 5))
    assert caught.value.expected == "1 to 4"


def test_a_backend_that_cannot_run_here_is_refused_and_another_one_named(out, monkeypatch):
    monkeypatch.setattr(tensorrt, "cuda_device", lambda: (None, "no CUDA driver"))
    with pytest.raises(UsageError, match="cannot run the engine here") as caught:
        benched.find(MODEL, "fp32", out, "tensorrt-rtx")
    assert "onnxruntime" in caught.value.next
    with pytest.raises(UsageError, match="no backend 'cudnn'"):
        benched.find(MODEL, "fp32", out, "cudnn")


@pytest.mark.parametrize("device, backend, where", [
    ("sm80", None, "tensorrt-rtx"), ("sm80", "onnxruntime", "onnxruntime"), ("sm90", None, "onnxruntime"),
])  # fmt: skip
def test_the_engine_runs_where_its_gpu_is_and_nowhere_else(out, monkeypatch, device, backend, where):
    monkeypatch.setattr(tensorrt, "cuda_device", lambda: (device, ""))
    found = benched.find(MODEL, "fp32", out, backend)
    assert found.backend == where and (where == "tensorrt-rtx" or found.why)


@pytest.mark.parametrize("text, batches", [("1,8, 32", (1, 8, 32)), ("8,8", (8,)), (None, None), ("", None)])
def test_batches_are_a_list(text, batches):
    assert bench.parse_batches(text) == batches


@pytest.mark.parametrize("text", ["0", "1:8:32", "a", "1,,2", "99999", "²"])
def test_a_batch_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="BATCH cannot be read"):
        bench.parse_batches(text)


def test_contenders_are_named_and_must_be_installed(monkeypatch):
    assert {"torch", "torch.compile", "onnx-plain", "onnxsim", "onnxslim", "openvino"} <= set(subject.names())
    with pytest.raises(UsageError, match="no contender 'tensorflow'"):
        bench.parse_against("torch,tensorflow")
    module = subject.contender("onnx-plain")
    monkeypatch.setattr(module, "PACKAGES", ("no-such-package-of-ours",))
    with pytest.raises(UsageError, match="onnx-plain cannot run here") as caught:
        bench.parse_against("onnx-plain")
    assert "bench" in caught.value.next


def test_every_contender_keeps_the_contract():
    for name in subject.names():
        try:
            module = subject.contender(name)
        except UsageError as error:
            assert "is not installed" in error.found
            continue
        assert module.COMPUTES and callable(module.make) and isinstance(module.PACKAGES, tuple)


def test_the_int8_contender_needs_an_int8_graph(out, tmp_path):
    with pytest.raises(UsageError, match="no INT8 graph"):
        measured(out, against=("ours-int8",))


def test_a_users_mistake_is_exit_2_and_no_traceback(out, capsys):
    assert cli.main(["bench", MODEL, "--precision", "fp16", "--out", str(out)]) == 2
    assert cli.main(["bench", MODEL, "--precision", "fp32", "--out", str(out), "--iterations", "0"]) == 2
    assert cli.main(["bench", MODEL, "--precision", "fp32", "--out", str(out), "--duration", "inf"]) == 2
    text = capsys.readouterr().err
    assert "make engine" in text and "no times to measure" in text and "Traceback" not in text
