"""The verb as a user types it; tests/test_pipeline.py reports on a real build."""

import json
import os
import subprocess
import sys
from pathlib import Path

import bundles
import pytest

from exporter import cli, report
from exporter.errors import UsageError
from exporter.progress import Progress

ROOT = Path(__file__).parents[1]


def test_the_verb_prints_the_verdicts_and_where_the_report_is(tmp_path, capsys):
    bundles.write(tmp_path, "fp16", model="vit_ti")
    assert cli.main(["report", "vit_ti", "--out", str(tmp_path), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("GRAPH PASSED, ENGINE NOT RUN  vit_ti fp16\n") and "RANDOM WEIGHTS: fp16" in said
    assert str(tmp_path / "vit_ti" / "report.html") in said
    assert cli.main(["report", "vit_ti", "--out", str(tmp_path), "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdicts"]["fp16"]["why"].endswith(bundles.NO_GPU)


def test_a_bundle_that_is_left_out_is_said_on_standard_error(tmp_path, capsys):
    bundles.write(tmp_path, "fp16", model="vit_ti", cache=False)
    bundles.write(tmp_path, "bf16", model="vit_ti", cache=False, schema=7)
    assert cli.main(["report", "vit_ti", "--out", str(tmp_path), "--quiet"]) == 0
    assert "vit_ti/bf16 is not in the report: its schema is 7" in capsys.readouterr().err


@pytest.mark.parametrize("words, says", [
    (["vit_ti"], "make engine MODEL=vit_ti"),
    (["vit_tii"], "vit_ti"),
    (["../elsewhere"], "there is no recipe"),
    (["vit_ti", "--precision", "fp61"], "PRECISION=fp16"),
    (["vit_ti", "--precision", ","], "PRECISION=all"),
    (["vit_ti", "--precision", "bf16,fp32"], "make engine MODEL=vit_ti"),
    (["vit_ti", "--out", ""], "OUT is empty"),
])  # fmt: skip
def test_a_users_mistake_is_exit_2_with_the_next_command_and_nothing_written(words, says, tmp_path, capsys):
    words = words if "--out" in words else [*words, "--out", str(tmp_path)]
    assert cli.main(["report", *words]) == 2
    error = capsys.readouterr().err
    assert says in error and "next:" in error and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_an_error_loads_nothing_heavy(tmp_path):
    code = (
        "import sys; from exporter.cli import main; code = main(sys.argv[1:]); "
        "print([m for m in ('torch', 'numpy', 'matplotlib', 'onnx') if m in sys.modules]); sys.exit(code)"
    )
    words = [sys.executable, "-c", code, "report", "vit_ti", "--out", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "[]\n"


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    folder = bundles.write(tmp_path, "fp16", cache=False)
    (folder.parent / report.FILE).mkdir()
    with pytest.raises(UsageError, match="cannot write"):
        report.report("toy", tmp_path, Progress(quiet=True))
    assert [p.name for p in folder.parent.iterdir() if p.name.startswith(".")] == []


def test_a_precision_may_be_one_that_only_the_folder_knows(tmp_path):
    bundles.write(tmp_path, "zz8", cache=False)
    assert report.parse_precisions("zz8, FP16", tmp_path, "toy") == ("zz8", "fp16")
    assert report.parse_precisions("all", tmp_path, "toy") == ()


@pytest.mark.parametrize("knob, option", [
    ("PRECISION=fp16", '--precision "$PRECISION"'), ("DEPTH=1", "--depth"), ("OUT=b", '--out "$OUT"'),
    ("WEIGHTS=my file.pt", '--weights "$WEIGHTS"'), ("IMAGES=a", '--images "$IMAGES"'), ("QUIET=1", "--quiet"),
    ("JSON=1", "--json"),
])  # fmt: skip
def test_every_knob_of_make_report_reaches_the_command_line(knob, option):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k not in ("MFLAGS", "PRECISION")}

    def command(*knobs):
        done = subprocess.run(["make", "-n", "report", "MODEL=vit_ti", *knobs], cwd=ROOT, capture_output=True,
                              text=True, env=clean)  # fmt: skip
        return done.stdout.split("-m exporter report")[1]

    assert option in command(knob) and option not in command() and "--precision all" in command()


def test_the_template_is_packaged():
    assert 'exporter = ["templates/*"]' in (ROOT / "pyproject.toml").read_text()
    assert {p.name for p in (ROOT / "exporter" / "templates").iterdir()} == {
        "page.html", "report.html", "report.css", "macros.html", "sweep.html"}  # fmt: skip
