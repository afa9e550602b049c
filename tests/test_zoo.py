"""benchmarks/zoo.py: the table is what the cells hold, and says what failed and what was not built."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def zoo():
    spec = importlib.util.spec_from_file_location("bench_zoo", ROOT / "benchmarks" / "zoo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(folder, **manifest):
    folder.mkdir()
    manifest = {"parity": {"torch/typed": {"relative_max": 0.00123, "status": "passed"}}} | manifest
    (folder / "manifest.json").write_text(json.dumps(manifest))
    figures = {"count": 101, "fused_attention": 12, "attention_due": 12, "roofline_us": 35.5}
    return {"status": "passed", "folder": str(folder), "seconds": 9.0, "steps": {"engine": {"figures": figures}}}


def test_a_row_has_the_figures_of_its_cells_and_what_failed_and_what_was_not_built(zoo, tmp_path):
    failed = {"status": "failed", "steps": {"engine": {"why": "the typed graph\ndiffers: 0.2"}}}
    records = {
        "fp32": None,
        "fp16": record(tmp_path / "fp16"),
        "bf16": failed,
        "int8": record(tmp_path / "int8", against_base={"gain": 0.964}),
    }
    assert zoo.row("vit_ti", records, {"kernels": 125}, "abc1234") == (
        "vit_ti", "5.7", "1.3", "125 -> 101", "12/12", "36", "not run", "1.2e-03",
        "**failed** the typed graph differs: 0.2", "1.2e-03", "0.96x", "abc1234",
    )  # fmt: skip
    nothing = zoo.row("vit_ti", dict.fromkeys(records), None, "abc1234")
    assert nothing[3:] == ("", "", "", *["not run"] * 4, "", "")
    assert zoo.summary([zoo.row("vit_ti", records, None, "abc1234"), nothing]) == (
        "2 of 8 cells passed, 5 not run, 1 failed or refused."
    )


def test_a_model_that_was_not_built_keeps_its_line_unless_the_columns_are_others(zoo):
    line = zoo.row("vit_ti", dict.fromkeys(zoo.PRECISIONS), None, "abc1234")
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in (zoo.COLUMNS, ("---",) * len(zoo.COLUMNS), line))
    text = f"| vit_s | of another table |\n{zoo.MARKS[0]}\n{table}\n\n1 of 4 cells\n{zoo.MARKS[1]}| vit_b | 1 |\n"
    assert zoo.kept(text) == {"vit_ti": line}
    assert zoo.kept(text.replace("GFLOPs", "GMACs")) == {}
    assert zoo.kept("no table") == {}
    assert zoo.kept(text.replace(" |\n\n1 of", " |  \n\n1 of")) == {"vit_ti": line}
    assert zoo.kept(text.replace("| vit_ti |", "| vit_ti | vit_s |")) == {}


def test_the_readme_has_a_line_of_every_model_that_the_next_run_would_keep(zoo):
    lines = zoo.kept((ROOT / "README.md").read_text())
    assert list(lines) == list(dict.fromkeys(cell.model for cell in zoo.sweepfile.read(zoo.SWEEP).cells))
    assert {len(line) for line in lines.values()} == {len(zoo.COLUMNS)}


@pytest.mark.parametrize("why, told", [
    ("resnet50: calibrate: nothing to quantise\nfor PRECISION=int8", "nothing to quantise for PRECISION=int8"),
    ("the typed graph differs: 0.2", "the typed graph differs: 0.2"),
    ("a | b", "a / b"), ("", ""), ("word: word", "word: word"),
    ("word " * 20, "word word word word word word word word word word word ..."),
])  # fmt: skip
def test_a_reason_begins_behind_the_names_in_front_of_it(zoo, why, told):
    assert zoo._reason(why) == told


def test_what_was_interrupted_was_not_built(zoo):
    assert zoo._whole(None) is None and zoo._whole({"status": "interrupted"}) is None
    assert zoo._whole({"status": "failed"}) == {"status": "failed"}


def test_the_table_goes_between_the_marks_and_nowhere_else(zoo, tmp_path):
    readme = tmp_path / "README.md"
    first, last = zoo.MARKS
    readme.write_text(f"before\n{first}old\n{last}after\n")
    zoo.write(readme, "| new |\n")
    assert readme.read_text() == f"before\n{first}\n| new |\n\n{last}after\n"
    readme.write_text("no marks\n")
    with pytest.raises(AssertionError, match="zoo"):
        zoo.write(readme, "x")
    assert all(mark in (ROOT / "README.md").read_text() for mark in zoo.MARKS)
