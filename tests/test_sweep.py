"""``make sweep``; the commands of most tests are answered by a stand-in that keeps their contract."""

import json
import os
import threading
import time

import pytest

from exporter import cli, sweep, sweep_report, sweepfile
from exporter.errors import UsageError

MANIFEST = {
    "engine": {"bytes": 10**6}, "unfused_attention": [], "weights": {"kind": "random"}, "failures": [],
    "parity": {"torch/raw": {"cosine": 0.9999}, "typed/engine": {"status": "not run"}},
    "kernels": {"sm80": {"count": 38, "fused_attention": 4, "bytes_moved": 2e6, "flops": 1e9, "roofline_us": 1.5,
                         "chip": "A100 80GB SXM", "batch": 1}},
}  # fmt: skip
TIMED = {
    "backend": "onnxruntime",
    "batches": [{"batch": 8, "ours": "ours", "ratios": {"torch": {"median": 1.4}}, "noisy": [], "contenders": {
        "ours": {"milliseconds": {"latency": {"p50": 12.5}}, "images_per_second": 640.0}}}],
}  # fmt: skip
CHIPS = {
    "chips": {"l4": {"floor_us": 2.0, "launched_us": 40.0, "images_per_second": {"floor": 1.0}}, "t4": {"refused": ""}}
}


class Tool:
    """Answers commands; ``answers`` overrides those of a model."""

    def __init__(self, **answers):
        self.commands, self.answers, self.most = [], answers, 0
        self._running, self._lock = 0, threading.Lock()

    def __call__(self, command):
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running if command[0] != "bench" else 0)
            if command[0] == "bench":
                assert self._running == 1, "something else ran while a cell was timed"
            self.commands.append(command)
        time.sleep(0.02)
        with self._lock:
            self._running -= 1
        if command[1] in self.answers:
            return self.answers[command[1]]
        return 0, json.dumps({"engine": MANIFEST, "roofline": CHIPS, "bench": TIMED}[command[0]]), ""

    def models(self, step="engine"):
        return [c[1] for c in self.commands if c[0] == step]


@pytest.fixture
def asked():
    cells = tuple(sweepfile.Cell(m, "fp16", "1", "sm80") for m in ("vit_ti", "swin_t", "mixer_s", "vit_s"))
    return sweepfile.Sweep("mine", cells, ("engine", "roofline", "bench"), {"weights": "random"})


def run(asked, out, tool, jobs=1, notes=None):
    return sweep.sweep(asked, out, jobs, (notes if notes is not None else []).append, run=tool)


def test_every_cell_is_built_then_timed_alone(asked, tmp_path):
    tool = Tool()
    found = run(asked, tmp_path, tool, jobs=3)
    assert sorted(tool.models()) == sorted(tool.models("bench")) == ["mixer_s", "swin_t", "vit_s", "vit_ti"]
    assert tool.most > 1
    assert [r["model"] for r in found["cells"]] == [c.model for c in asked.cells]
    first = found["cells"][0]
    assert first["status"] == "passed" and first["steps"]["engine"]["figures"]["cosine"] == 0.9999
    assert first["steps"]["bench"]["figures"]["ratios"] == {"torch": 1.4}
    assert list(first["steps"]["roofline"]["figures"]) == ["l4"]
    assert json.loads((tmp_path / "sweep" / "mine" / "sweep.json").read_text()) == found


def test_all_cells_share_one_cache(asked, tmp_path):
    run(asked, tmp_path, Tool())
    for cell in asked.cells:
        assert os.path.samefile(tmp_path / "sweep" / "mine" / cell.name / ".cache", tmp_path / ".cache")


def test_what_is_done_is_not_done_again(asked, tmp_path):
    run(asked, tmp_path, Tool())
    again = Tool()
    found = run(asked, tmp_path, again)
    assert again.commands == [] and len(found["reused"]) == 4 and len(found["cells"]) == 4


REFUSED = (2, json.dumps({"error": {"what": "sm75 cannot run bf16", "found": "sm75", "exit_code": 2}}), "error: ...")
FAILED = (1, json.dumps(MANIFEST | {"failures": [{"what": "parity failed", "found": "0.3"}]}), "error: parity failed")
CRASHED = (-11, "", "Segmentation fault")


@pytest.mark.parametrize("answer, status, why", [
    (REFUSED, "refused", "sm75 cannot run bf16"), (FAILED, "failed", "parity failed: 0.3"),
    (CRASHED, "crashed", "Segmentation fault"), ((0, "no json", ""), "crashed", "no output"),
])  # fmt: skip
def test_a_cell_that_fails_stops_no_other_and_is_tried_again(asked, tmp_path, answer, status, why, capsys):
    found = run(asked, tmp_path, Tool(swin_t=answer))
    record = found["cells"][1]
    assert record["status"] == status and why in record["steps"]["engine"]["why"]
    assert [r["status"] for r in found["cells"] if r["model"] != "swin_t"] == ["passed"] * 3
    sweep_report.shown(found)
    assert why in capsys.readouterr().out
    assert list(record["steps"]) == ["engine"]
    again = Tool()
    run(asked, tmp_path, again)
    assert again.models() == ["swin_t"]


def test_results_of_another_version_are_named_and_not_mixed_in(asked, tmp_path, capsys):
    run(asked, tmp_path, Tool())
    path = tmp_path / "sweep" / "mine" / asked.cells[2].name / "cell.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tool": "0.0.1", "key": "other"}))
    tool, notes = Tool(), []
    found = run(asked, tmp_path, tool, notes=notes)
    assert tool.models() == ["mixer_s"] and found["of_other_versions"] == {asked.cells[2].name: "0.0.1"}
    assert any("vit-exporter 0.0.1" in note for note in notes)
    sweep_report.shown(found)
    assert "of another version, not mixed in" in capsys.readouterr().out


@pytest.mark.parametrize("spoil", ["{", "[]", "{}", json.dumps({"tool": 1})])
def test_a_record_that_cannot_be_read_is_made_again(asked, tmp_path, spoil):
    run(asked, tmp_path, Tool())
    (tmp_path / "sweep" / "mine" / asked.cells[0].name / "cell.json").write_text(spoil)
    tool = Tool()
    run(asked, tmp_path, tool)
    assert tool.models() == ["vit_ti"]


def test_other_settings_are_another_sweep(asked, tmp_path):
    from dataclasses import replace

    run(asked, tmp_path, Tool())
    tool = Tool()
    run(replace(asked, settings={"weights": "random", "io": "fp16"}), tmp_path, tool)
    assert len(tool.models()) == 4


def test_an_interrupt_ends_it_and_leaves_what_is_done(asked, tmp_path):
    tool = Tool()

    def interrupted(command):
        if command[1] == "mixer_s":
            raise KeyboardInterrupt
        return tool(command)

    with pytest.raises(KeyboardInterrupt):
        run(asked, tmp_path, interrupted)
    again = Tool()
    run(asked, tmp_path, again)
    assert "vit_ti" not in again.models() or "vit_ti" not in tool.models()


def test_a_stopped_runner_starts_nothing():
    runner = sweep.Runner()
    runner.stop()
    assert runner.run(["list"])[0] == 130


def test_the_verb_runs_real_commands_and_its_exit_code_says_whether_all_passed(tmp_path, capsys):
    file = tmp_path / "real.yaml"
    file.write_text("models: [vit_digits]\nprecisions: [bf16]\ntargets: [sm75]\nsettings: {weights: random}\n")
    assert cli.main(["sweep", str(file), "--out", str(tmp_path / "out"), "-j", "2"]) == 1
    text = capsys.readouterr().out
    assert "refused" in text and "Ampere" in text and "0 of 1 passed" in text
    assert cli.main(["sweep", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "out")]) == 2
    assert cli.main(["sweep", str(file), "-j", "none", "--out", str(tmp_path / "out")]) == 2


@pytest.mark.parametrize("text", ["0", "-1", "many", "65"])
def test_jobs_that_are_no_number_are_refused(text):
    with pytest.raises(UsageError, match="JOBS"):
        sweep.parse_jobs(text)


def test_a_cell_is_current_only_for_the_sources_that_made_it(asked, tmp_path, monkeypatch):
    run(asked, tmp_path, Tool(vit_s=(1, "", "it differs")))
    home = tmp_path / "sweep" / "mine"
    first, *_, last = asked.cells
    assert sweep.current(first, asked, home)["status"] == "passed"
    assert sweep.current(last, asked, home)["status"] == "failed"
    table = tmp_path / "tuned.json"
    table.write_text("{}")
    sweep._code.cache_clear()
    with monkeypatch.context() as changed:
        changed.setattr(sweep.choice, "TABLE", table)
        assert sweep.current(first, asked, home) is None  # another form may have won
    sweep._code.cache_clear()
    assert sweep.current(first, asked, home)
    monkeypatch.setattr(sweep, "_code", lambda: "other sources")
    assert sweep.current(first, asked, home) is None
    (home / first.name / sweep.RECORD).unlink()
    assert sweep.current(first, asked, home) is None
