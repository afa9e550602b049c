"""The readers of files from elsewhere, on the corpus of ``make fuzz`` and on what its mutations make of it."""

import importlib.util
import json
import random
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("bench_fuzz", ROOT / "benchmarks" / "fuzz.py")
fuzz = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = fuzz
SPEC.loader.exec_module(fuzz)

FOUND = "found-"
"""Begins the names of inputs that a reader once stumbled over."""

QUIET = {"report", "bench", "entry"}
"""Readers that name a bad file instead of raising, so that whatever they are given is taken."""


@pytest.mark.parametrize("name", fuzz.READERS)
def test_nothing_but_errors_of_ours_comes_of_the_corpus_and_its_mutations(name, tmp_path):
    reader, rng = fuzz.READERS[name], random.Random(7)
    seeds = {path.name: path.read_bytes() for path in (fuzz.CORPUS / name).iterdir()}
    for file, data in seeds.items():
        assert fuzz.run(reader, data, tmp_path / file) or file.startswith(FOUND), file
    answers = [
        fuzz.run(reader, fuzz.mutated(rng.choice(list(seeds.values())), rng, reader.is_json), tmp_path / str(i))
        for i in range(60)
    ]
    assert name in QUIET or not all(answers)


def test_the_corpus_is_of_the_readers_and_small():
    files = [path for path in fuzz.CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == set(fuzz.READERS)
    assert sum(path.stat().st_size for path in files) < 200_000


def test_a_reader_that_raises_anything_else_is_seen(tmp_path):
    def read(path):
        raise KeyError(path.read_bytes())

    with pytest.raises(KeyError):
        fuzz.run(fuzz.Reader("x", "deep/x.json", 1.0, read), b"{}", tmp_path)


def test_mutations_are_seeded_differ_and_keep_json_what_it_is():
    data = json.dumps({"a": [1, {"b": "c"}], "d": None}).encode()
    made = [fuzz.mutated(data, random.Random(seed), True) for seed in range(50)]
    assert made == [fuzz.mutated(data, random.Random(seed), True) for seed in range(50)]
    assert len(set(made)) > 25

    def reads(text):
        try:
            json.loads(text)
        except ValueError:
            return False
        return True

    assert sum(map(reads, made)) > 40


def test_a_crash_ends_the_fuzzer_with_an_error_and_keeps_the_input(tmp_path, monkeypatch, capsys):
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python or system")
    (tmp_path / "corpus" / "coco").mkdir(parents=True)
    (tmp_path / "corpus" / "coco" / "seed").write_bytes(b'{"images": [], "annotations": []}')
    program = (ROOT / "benchmarks" / "fuzz.py").read_text()
    broken = program.replace("    coco.instances(path)", '    assert b"~" not in path.read_bytes()', 1)
    broken = broken.replace('Path(__file__).parents[1] / "tests" / "corpus"', f"Path({str(tmp_path / 'corpus')!r})", 1)
    (tmp_path / "fuzz.py").write_text(broken)
    spec = importlib.util.spec_from_file_location("broken_fuzz", tmp_path / "fuzz.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert module.main(["--runs", "20000", "coco"]) == 1
    assert "AssertionError" in capsys.readouterr().err
    assert list((tmp_path / "corpus" / "coco").glob("found-crash-*"))
