"""Faults of the machine, made for real: kills, a disk that ends, a clock set back, memory that ends."""

import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from models import VIT

from exporter import bundle, memory, pipeline, registry
from exporter.errors import UsageError
from exporter.progress import Progress
from exporter.store import Store
from exporter.types import Request

ROOT = Path(__file__).parents[1]


def benchmark():
    spec = importlib.util.spec_from_file_location("bench_faults", ROOT / "benchmarks" / "faults.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_kills_at_random_instants_lose_and_tear_nothing():
    tally = asdict(benchmark().run(6, seed=1))
    assert tally.pop("kills") == tally.pop("survived") == 6 and not any(tally.values())


def test_the_judge_of_the_kills_sees_what_is_torn_lost_broken_and_left(tmp_path):
    """A check that cannot fail proves nothing: every fault is planted."""
    judge = benchmark()._judge
    final = tmp_path / "m" / "fp16"
    final.mkdir(parents=True)
    (final / "a").write_bytes(b"x")
    (final / "manifest.json").write_text(json.dumps({"generation": 3, "files": {"a": "0" * 64}}))
    entry = tmp_path / ".cache" / "stage" / "k"
    entry.mkdir(parents=True)
    (entry / "entry.json").write_text("{")
    (tmp_path / "m" / "half").touch()
    found = judge(tmp_path, last=4)
    assert found == {"bundles_torn": 1, "bundles_lost": 1, "entries_broken": 1, "files_left": 1}


def in_a_process(text, *words):
    """Run code in a process of its own: (exit code, output)."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(text), *map(str, words)], cwd=ROOT, text=True,
                          capture_output=True, timeout=60)  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_disk_that_takes_no_more_leaves_nothing_and_says_so(tmp_path):
    """/dev/full answers ENOSPC to every write, as a full disk does."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")

    def run(folder):
        with open("/dev/full", "wb") as file:
            file.write(bytes(10**6))

    with pytest.raises(UsageError, match="cannot write"):
        Store(tmp_path).build("stage", "k", {}, run)
    assert not any(p.is_file() for p in tmp_path.rglob("*"))


def test_an_interrupted_stage_and_a_terminated_one_leave_no_file(tmp_path):
    code = """
        import sys, time
        from pathlib import Path
        from exporter.store import Store
        from exporter import interrupting
        interrupting.install()
        store = Store(Path(sys.argv[1])); store.join()
        def run(folder):
            (folder / "half").write_bytes(b"x"); print("ready", flush=True); time.sleep(60)
        store.build("stage", "k", {}, run)
    """
    for sent in (signal.SIGINT, signal.SIGTERM):
        child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), tmp_path], cwd=ROOT, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
        assert child.stdout.readline() == "ready\n"
        child.send_signal(sent)
        child.wait(10)
        child.stdout.close()
        assert not list((tmp_path / "tmp").iterdir())


def test_a_clock_that_was_set_back_still_finds(tmp_path):
    store = Store(tmp_path)
    entry = store.build("stage", "k", {}, lambda folder: ({}, {}))
    os.utime(entry.path("entry.json"), (time.time() + 10**8,) * 2)
    assert Store(tmp_path).find("stage", "k")


@pytest.mark.parametrize("error", [
    MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 B"),
    RuntimeError("std::bad_alloc"), RuntimeError("Failed to allocate memory for requested buffer of size 99"),
])  # fmt: skip
def test_a_stage_without_memory_is_named_with_its_need(error, tmp_path, monkeypatch):
    def run(build, folder):
        raise error

    monkeypatch.setattr("exporter.stages.weights.run", run)
    asked = Request(VIT, registry.precision("fp16"), VIT.batch, ("sm80",), "tensorrt-rtx", "random", "fp32", tmp_path)
    with pytest.raises(UsageError, match="not enough memory") as caught:
        pipeline.prepare(asked, Progress(quiet=True), pipeline.CANONICAL)
    assert caught.value.stage == "weights" and caught.value.model == "tiny_vit"
    assert "GB available" in caught.value.found and "seventeen times" in caught.value.expected


def test_real_exhaustion_is_recognised():
    code = """
        import resource, sys
        from exporter import memory
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        try:
            bytes(2 << 30)
        except Exception as error:
            print(memory.exhausted(error))
    """
    assert in_a_process(code) == (0, "True\n")
    assert not memory.exhausted(RuntimeError("shapes do not match"))
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 1 << 30  # the limit was the child's


def test_a_bundle_that_was_put_aside_by_a_killed_build_comes_back(tmp_path):
    for name in (".fp16.0a1b2c3d.tmp.old", ".int8-bf16.0a1b2c3d.tmp", ".bf16.0a1b2c3d.tmp.old", "bf16"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text(name)
    (tmp_path / ".raw.onnx.0a1b2c3d.tmp").touch()
    bundle.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bf16", "fp16"]
    assert (tmp_path / "fp16" / "x").read_text() == ".fp16.0a1b2c3d.tmp.old"
    assert (tmp_path / "bf16" / "x").read_text() == "bf16"
