"""The commands as a user types them, each in a process of its own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = (
    "torch",
    "onnx",
    "onnxruntime",
    "numpy",
    "timm",
    "transformers",
    "polygraphy",
    "tensorrt_rtx",
    "onnx_graphsurgeon",
)


def exporter(*words, **environment):
    return subprocess.run([sys.executable, "-m", "exporter", *words], cwd=ROOT, capture_output=True, text=True,
                          env=os.environ | environment, timeout=300)  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    done = exporter(
        "engine", "vit_ti", "--target", "sm80", "--out", str(folder), "--batch", "1:2:4", "--weights", "random"
    )
    assert done.returncode == 0, done.stderr
    return folder


def again(out, verb="engine", *words, **environment):
    return exporter(verb, "vit_ti", "--target", "sm80", "--out", str(out), "--batch", "1:2:4", "--weights", "random",
                    *words, **environment)  # fmt: skip


def test_a_build_ends_with_the_verdict_and_the_evidence(out):
    done = again(out)
    first = done.stdout.splitlines()[0]
    assert first.startswith("PASSED  vit_ti fp16") and str(out / "vit_ti" / "fp16") in first
    for word in ("weights", "12 of 12 attentions fused", "A100", "passed: torch/raw", "not run: typed/engine"):
        assert word in done.stdout
    assert "RANDOM WEIGHTS" in done.stderr


def test_an_unchanged_repeat_imports_nothing_heavy(out):
    code = (
        "import sys; from exporter.cli import main; code = main(sys.argv[1:]); "
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]; print('heavy', heavy, file=sys.stderr); sys.exit(code)"
    )
    words = ["engine", "vit_ti", "--target", "sm80", "--out", str(out), "--batch", "1:2:4", "--weights", "random"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "heavy []" in done.stderr
    assert done.stderr.count("reused") == 12  # eleven stages and the bundle


def test_json_is_the_manifest_and_progress_stays_off_standard_output(out):
    done = again(out, "engine", "--json")
    assert json.loads(done.stdout) == json.loads((out / "vit_ti" / "fp16" / "manifest.json").read_text())
    assert "reused" in done.stderr


def test_quiet_says_the_verdict_only(out):
    done = again(out, "engine", "--quiet")
    assert done.stdout.startswith("PASSED") and "reused" not in done.stderr


def test_kernels_lists_every_kernel_biggest_first_and_the_blocks_shares(out):
    lines = again(out, "kernels", "--quiet").stdout.splitlines()
    report = json.loads((out / "vit_ti" / "fp16" / "kernels.json").read_text())
    assert f"{len(report['kernels'])} kernels" in lines[0]
    sizes = [float(line.split()[0]) for line in lines if line.split()[1:2] and line.split()[1].endswith("%")]
    assert len(sizes) == len(report["at_opt"]) and sizes == sorted(sizes, reverse=True)
    assert any(line.split()[:1] == ["blocks.11"] for line in lines)
    assert lines[-1].startswith("sm80: ")


def test_parity_prints_the_ladder(out):
    text = again(out, "parity", "--quiet").stdout
    for word in ("torch/raw", "raw/rewritten", "rewritten/typed", "torch/typed", "typed/engine", "not run", "1,3,4"):
        assert word in text


def test_a_terminal_gets_the_same_words(out):
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    words = ["engine", "vit_ti", "--target", "sm80", "--out", str(out), "--batch", "1:2:4", "--weights", "random"]
    master, slave = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "exporter", *words], cwd=ROOT, stdout=slave, stderr=slave)
    os.close(slave)
    text = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:
            break
        text += chunk
    assert process.wait() == 0
    assert b"PASSED" in text and b"typed_parity" in text and b"RANDOM WEIGHTS" in text


def test_list_is_a_table_of_every_model():
    text = exporter("list").stdout
    for word in ("swin_b", "87.8", "15.5", "3x224x224", "fp16", "detr_r50", "arXiv:2103.14030"):
        assert word in text
    rows = json.loads(exporter("list", "--json").stdout)
    assert {"model", "family", "parameters_m", "gflops", "input", "precisions"} <= set(rows[0])


@pytest.mark.parametrize("words, says", [
    (["swin_bb"], "swin_b"),
    (["vit_ti", "--precision", "fp61"], "fp16"),
    (["vit_ti", "--batch", "0"], "out of range"),
    (["vit_ti", "--target", "sm90"], "Hopper"),
    (["vit_ti", "--target", "sm75", "--precision", "bf16"], "Ampere"),
    (["vit_ti", "--image", "100"], "multiples of 16"),
    (["vit_ti", "--weights", "nowhere.pt"], "does not exist"),
    (["vit_ti", "--weights", "pyproject.toml"], "cannot be read"),
    (["vit_ti", "--weights", "random", "--images", "nowhere"], "does not exist"),
    (["vit_ti", "--out", "/proc/nowhere"], "cannot write"),
    (["vit_ti", "--weights", "pretrained"], "cannot be had"),
])  # fmt: skip
def test_a_users_mistake_is_exit_2_with_the_next_command_and_no_traceback(words, says, tmp_path):
    words = words if "--out" in words else [*words, "--out", str(tmp_path / "out")]
    done = exporter("engine", *words, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert done.returncode == 2
    assert says in done.stderr and "next:" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "vit_ti").exists()


def test_an_error_can_be_read_by_a_program(tmp_path):
    done = exporter("engine", "swin_bb", "--json", "--out", str(tmp_path))
    assert json.loads(done.stdout)["error"]["exit_code"] == 2


def test_a_mistake_leaves_the_bundle_that_is_there_untouched(out):
    before = {p: p.stat().st_mtime_ns for p in (out / "vit_ti").rglob("*")}
    assert again(out, "engine", "--precision", "fp16", "--weights", "nowhere.pt").returncode == 2
    assert {p: p.stat().st_mtime_ns for p in (out / "vit_ti").rglob("*")} == before


def test_a_failed_check_is_exit_1_and_says_which(out):
    code = (
        "import sys; from exporter import registry, cli; r = registry.recipe('vit_ti'); "
        "object.__setattr__(r, 'fused_attention', {'fp32': 12}); sys.exit(cli.main(sys.argv[1:]))"
    )
    words = ["engine", "vit_ti", "--target", "sm80", "--out", str(out), "--batch", "1", "--weights", "random"]
    words += ["--precision", "fp32"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout.startswith("FAILED")
    assert "0 fused; not blocks.0" in done.stderr and "ALLOW_UNFUSED=1" in done.stderr


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
def test_a_signal_stops_without_a_traceback_and_without_half_files(signal_name, tmp_path):
    import signal

    words = ["engine", "vit_ti", "--target", "sm80", "--out", str(tmp_path), "--weights", "random"]
    process = subprocess.Popen(
        [sys.executable, "-m", "exporter", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # background jobs have none
    )  # fmt: skip
    while not (tmp_path / ".cache" / "tmp").exists():
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(getattr(signal, signal_name))
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "interrupted" in err and "Traceback" not in err
    assert not list((tmp_path / ".cache" / "tmp").iterdir()) and not (tmp_path / "vit_ti").exists()


@pytest.mark.parametrize("words", [["engine"], ["engine", "vit_ti", "--colour", "red"], ["fly"], []])
def test_words_that_make_no_command_are_one_error_in_text_and_in_json(words):
    text, data = exporter(*words), exporter(*words, "--json")
    assert text.returncode == data.returncode == 2
    assert text.stderr.startswith("error: ") and "--help" in text.stderr and "Traceback" not in text.stderr
    assert json.loads(data.stdout)["error"]["next"].endswith("--help")


@pytest.mark.parametrize("words, knob", [
    (["engine", "vit_ti", "--out", ""], "OUT"), (["triton", "vit_ti", "--repository", " "], "REPO"),
])  # fmt: skip
def test_a_folder_without_a_name_is_refused_by_its_knob(words, knob):
    done = exporter(*words)
    assert done.returncode == 2 and f"{knob} is empty" in done.stderr and f"next:     {knob}=" in done.stderr


def test_every_verb_is_a_file_with_a_line_of_help():
    text = exporter("--help").stdout
    for file in (ROOT / "exporter" / "verbs").glob("[a-z]*.py"):
        assert file.stem.replace("_", "-") in text
