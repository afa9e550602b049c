"""The page of a sweep: the verdict first, every cell, and nothing from damaged or older results."""

import copy
import json

import pytest

from exporter import __version__, cli
from exporter.errors import UsageError
from exporter.reporting import sweep_page

ENGINE = {"count": 108, "fused_attention": 12, "attention_due": 12, "bytes_moved": 2.8e9, "flops": 1e9,
          "roofline_us": 1620.0, "engine_bytes": 65e6, "cosine": 0.999999, "chip": "A100", "batch": 32,
          "weights": "random"}  # fmt: skip
BENCH = {"backend": "onnxruntime", "batch": 32, "p50_ms": 84.25, "images_per_second": 380.0, "ratios": {}, "noisy": []}


def cell(model="swin_t", precision="fp16", status="passed", **steps):
    steps = steps or {"engine": {"figures": ENGINE}, "bench": {"figures": BENCH}}
    return {"cell": f"{model}-{precision}", "model": model, "precision": precision, "batch": "32", "target": None,
            "status": status, "seconds": 9.5, "steps": steps}  # fmt: skip


FOUND = {
    "tool": __version__, "name": "night", "steps": ["engine", "bench"], "settings": {"weights": "random"},
    "cells": [cell(), cell(precision="int8"),
              cell("vit_b", status="failed", engine={"why": "parity failed: <script>0.3"})],
    "machine": {"cpu": "two cores"}, "when": "2026-11-27T10:00:00+00:00", "command": "make sweep",
    "of_other_versions": {"old": "0.0.1"},
}  # fmt: skip


def written(out, found):
    home = out / "sweep" / "night"
    home.mkdir(parents=True)
    (home / "sweep.json").write_text(json.dumps(found))
    return home


def test_the_verdict_comes_first_then_every_cell(tmp_path):
    home = written(tmp_path, FOUND)
    made = sweep_page.report("night", tmp_path)
    text = (home / "report.html").read_text()
    assert (made["cells"], made["passed"], made["bytes"]) == (3, 2, len(text.encode())) and made["bytes"] < 2e6
    assert text.index("2 of 3 passed") < text.index("engine: parity failed: &lt;script&gt;0.3") < text.index("84.25")
    assert (
        "<script" not in text and "https://" not in text and text.count("http://") == text.count("http://www.w3.org/")
    )
    assert "swin_t at 32, A100: fp16 1620, int8 1620" in text and "made by version 0.0.1" in text
    assert text.count("<svg") == 2 and sweep_page.report("night", tmp_path) == made


def test_a_cell_without_figures_or_with_damaged_ones_has_an_empty_row():
    broken = copy.deepcopy(ENGINE) | {"count": "many"}
    found = FOUND | {"cells": [cell(engine={"figures": broken}), cell(status="stopped", engine={"why": "stopped"})]}
    made = sweep_page.contents(found)
    assert made["floors"] is None and [row[5:] for row in made["table"].rows] == [(*("",) * 8, "10")] * 2
    assert made["failed"] == [("swin_t-fp16", "stopped", "engine: stopped")]


@pytest.mark.parametrize("found, says", [
    (None, "sweep.json is missing"), ([], "no object"), (FOUND | {"cells": [{}]}, "cells[0].cell is missing"),
    (FOUND | {"tool": "0.0.1"}, "0.0.1"),
])  # fmt: skip
def test_what_is_no_sweep_of_this_version_is_refused(found, says, tmp_path):
    if found is not None:
        written(tmp_path, found)
    with pytest.raises(UsageError) as caught:
        sweep_page.report("night", tmp_path)
    assert says in caught.value.found and "make sweep" in caught.value.next


def test_the_verb_takes_a_model_or_a_sweep(tmp_path, capsys):
    home = written(tmp_path, FOUND)
    assert cli.main(["report", "--sweep", "benchmarks/night.yaml", "--out", str(tmp_path)]) == 0
    assert str(home / "report.html") in capsys.readouterr().out
    assert cli.main(["report", "--out", str(tmp_path)]) == 2
    assert cli.main(["report", "swin_t", "--sweep", "x.yaml", "--out", str(tmp_path)]) == 2
    assert "one of them" in capsys.readouterr().err
