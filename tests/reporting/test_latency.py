import json

import bundles
import pytest

from exporter import __version__
from exporter.reporting import inputs, latency, page, published

TIMES = {"queries": 20, "min": 1.0, "mean": 2.0, "p50": 2.0, "p90": 3.0, "p95": 3.5, "p99": 4.0, "max": 4.0}
ROW = {"computes": "x", "milliseconds": {"latency": TIMES}, "images_per_second": 500.0}
RATIO = {"median": 1.5, "low": 1.4, "high": 1.6, "verdict": "faster"}


def result(**changes):
    batch = {"batch": 1, "contenders": {"ours": ROW, "torch": ROW}, "noisy": ["others kept a core busy"],
             "ratios": {"torch": RATIO}}  # fmt: skip
    record = {"tool": __version__, "backend": "onnxruntime", "says": "NOT the engine", "engine_sha256": "c" * 64,
              "batches": [batch], "command": "python -m exporter bench toy"}  # fmt: skip
    return record | changes


def built(tmp_path, record):
    folder = bundles.write(tmp_path, "fp16")
    text = record if isinstance(record, str) else json.dumps(record)
    (folder / "bench.onnxruntime.json").write_text(text)
    return published.find(tmp_path, "toy")[0]


def test_percentiles_ratios_and_what_spoilt_them(tmp_path):
    (made,), left = latency.of(built(tmp_path, result()))
    assert made.times.rows[0] == ("1", "ours", "latency", "2.000", "3.000", "3.500", "4.000", "2.000", "20", "500.0")
    assert made.against.rows == [("1", "torch", "1.50", "1.40 to 1.60", "faster")]
    assert made.noisy == ("batch 1: others kept a core busy",) and left == []


@pytest.mark.parametrize("record, says", [
    (result(tool="0.0.1"), "is of version 0.0.1"), (result(engine_sha256="d" * 64), "an engine that was here before"),
    ("{", "no JSON"), (result(batches=3), "batches is no list"),
])  # fmt: skip
def test_results_that_are_not_this_engines_are_named_and_not_shown(record, says, tmp_path):
    made, (left,) = latency.of(built(tmp_path, record))
    assert made == [] and says in left


def test_the_page_shows_what_ran_or_what_to_type(tmp_path):
    built_ones = built(tmp_path, result())
    text = page.render(tmp_path, "toy", built_ones, [], inputs.Words())
    assert "NOT the engine" in text and "NOISY" in text
    (built_ones[0].folder / "bench.onnxruntime.json").unlink()
    assert "make bench MODEL=toy" in page.render(tmp_path, "toy", built_ones, [], inputs.Words())
