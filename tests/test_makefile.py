import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def make(*words, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "MFLAGS"}
    return subprocess.run(["make", *words], cwd=ROOT, capture_output=True, text=True, env=clean | environment)


def test_make_alone_prints_the_targets_the_knobs_and_their_defaults():
    text = make().stdout
    for word in ("engine", "parity", "kernels", "list", "test", "bench-pipeline", "MODEL", "PRECISION", "TARGET",
                 "BATCH", "WEIGHTS", "IMAGE", "IO", "IMAGES", "OUT", "BACKEND", "sm80,sm86,sm89,sm120",
                 "1:8:32"):  # fmt: skip
        assert word in text


def test_a_missing_model_is_exit_2_and_says_what_to_type():
    done = make("engine")
    assert done.returncode == 2 and "make list" in done.stderr


@pytest.mark.parametrize("knob, option", [
    ("TARGET=sm80,sm86", '--target "$TARGET"'), ("BATCH=8", '--batch "$BATCH"'),
    ("WEIGHTS=my file.pt", '--weights "$WEIGHTS"'),
    ("IMAGE=384", '--image "$IMAGE"'), ("IO=fp16", '--io "$IO"'), ("IMAGES=a", '--images "$IMAGES"'),
    ("OUT=b", '--out "$OUT"'), ("BACKEND=tensorrt-rtx", '--backend "$BACKEND"'), ("WITHOUT=x", '--without "$WITHOUT"'),
    ("ALLOW_UNFUSED=1", "--allow-unfused"), ("QUIET=1", "--quiet"), ("JSON=1", "--json"),
])  # fmt: skip
def test_every_knob_reaches_the_command_line(knob, option):
    def command(*knobs):
        return make("-n", "engine", "MODEL=vit_ti", *knobs).stdout.split("-m exporter engine")[1]

    assert option in command(knob) and option not in command()


def test_a_python_that_is_too_old_is_said_before_anything_is_installed(tmp_path):
    for name in ("Makefile", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "old").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "old").chmod(0o755)
    done = make("-C", str(tmp_path), "list", "PYTHON=./old")
    assert done.returncode == 2 and "Python 3.10 or newer" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_ci_runs_the_readmes_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    assert "make test" in script and "make test" in (ROOT / "README.md").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize("target, knob, option", [
    ("roofline", "PRICE=l4=0.7", '--price "$PRICE"'), ("roofline", "GRAPH=1", "--graph-only"),
    ("bench", "VS=torch", '--vs "$VS"'), ("bench", "BATCH=1,8", '--batch "$BATCH"'),
    ("bench", "DURATION=9", '--duration "$DURATION"'), ("bench", "THREADS=1", '--threads "$THREADS"'),
    ("sweep", "JOBS=2", '--jobs "$JOBS"'),
    ("cpp", "INTO=a b", '--into "$INTO"'), ("cpp", "ALLOW_RANDOM=1", "--allow-random"),
    ("crosscheck", "IMAGES=a b", '--images "$IMAGES"'), ("serve", "ALLOW_RANDOM=1", "--allow-random"),
])  # fmt: skip
def test_knobs_of_measuring_reach_the_command_line(target, knob, option):
    def command(*knobs):
        return make("-n", target, "MODEL=vit_ti", "SWEEP=a.yaml", *knobs).stdout.split(f"-m exporter {target}")[1]

    assert option in command(knob) and option not in command()


def test_a_missing_sweep_file_is_exit_2_and_says_what_to_type():
    done = make("sweep")
    assert done.returncode == 2 and "make sweep SWEEP=" in done.stderr
