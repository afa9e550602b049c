import pytest
from models import VIT

from exporter import pipeline, registry, why, why_report
from exporter.progress import Progress
from exporter.types import Batch, Request


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    pipeline.run(asked(folder), Progress(quiet=True))
    return folder


def asked(out, precision="fp16", **fields):
    fields = {"batch": VIT.batch, "targets": ("sm80",), "backend": "tensorrt-rtx", "weights": "random",
              "io": "fp32", "command": "test"} | fields  # fmt: skip
    return Request(recipe=VIT, precision=registry.precision(precision), out=out, **fields)


def rows(request):
    return {row["stage"]: row for row in why.why(request)}


def made(found):
    return [name for name, row in found.items() if row["status"] == why.MADE]


def test_an_unchanged_build_reuses_everything_and_says_so(out, capsys):
    found = why.why(asked(out))
    assert made({row["stage"]: row for row in found}) == [] and why.seconds(found) == 0
    why_report.report(found)
    assert "everything is there" in capsys.readouterr().out


def test_another_target_only_compiles_and_names_what_changed(out):
    found = rows(asked(out, targets=("sm80", "sm86")))
    assert made(found) == ["compile", "engine_parity"]
    assert found["compile"]["changed"] == {"targets": ['["sm80"]', '["sm80", "sm86"]']}
    assert found["engine_parity"]["changed"]["needs"][1] == "compile"


def test_another_batch_is_named_with_what_it_was(out):
    found = rows(asked(out, batch=Batch(4, 4, 4)))
    assert found["raw_parity"]["changed"]["batch"] == ["1:2:5", "4"]
    assert found["trace"]["status"] == why.REUSED and found["type"]["status"] == why.MADE


def test_changed_code_is_named_by_its_module(out, monkeypatch):
    real = pipeline.source
    monkeypatch.setattr(pipeline, "source", lambda name: real(name) + ("#" if name == "exporter.casting" else ""))
    found = rows(asked(out))
    assert list(found["type"]["changed"]) == ["code: exporter.casting"]
    assert "type" in made(found) and "form" not in made(found)


def test_an_empty_cache_has_nothing_to_compare_with(tmp_path, capsys):
    found = why.why(asked(tmp_path))
    assert len(made({row["stage"]: row for row in found})) == len(found)
    assert found[0]["changed"] == {"all": ["no entry yet", ""]}
    why_report.report(found)
    assert f"{len(found)} of {len(found)} stages" in capsys.readouterr().out
