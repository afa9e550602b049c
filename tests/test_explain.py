import json

from models import SWIN

from exporter import explain, pipeline, registry, rewriting
from exporter.progress import Progress
from exporter.types import Batch, Request


def test_each_rewrite_is_shown_with_the_kernels_of_the_graph_after_it(tmp_path):
    asked = Request(
        SWIN, registry.precision("fp16"), Batch(1, 1, 1), ("sm80",), "tensorrt-rtx", "random", "fp32", tmp_path
    )
    found = explain.explain(asked, Progress(quiet=True))
    names = [row["rewrite"] for row in found["steps"]]
    assert names[0] == "as exported" and names[-2:] == [f"attention_form {found['form']}", "cancel_permutations"]
    assert found["form"] != "windows" and found["compared_at"] == [1]
    first, last = found["steps"][0], found["steps"][-1]
    assert last["fused_attention"] == 4 and last["kernels"] < 0.7 * first["kernels"]
    assert last["bytes_moved"] < first["bytes_moved"]
    assert all(row["matches"] > 0 and row["max_abs_error"] < 1e-5 for row in found["steps"][1:])
    assert sum(found["blocks"]["layers.0.blocks.1"].values()) == 7
    assert sum(found["blocks_before"]["layers.0.blocks.1"].values()) > 8
    assert json.loads((tmp_path / "tiny_swin" / "explain.fp16.json").read_text()) == found


def test_each_rewrite_is_compared_at_the_profiles_largest_batch(tmp_path, monkeypatch):
    batches = []
    real = rewriting._outputs

    def outputs(shell, arrays, feeds):
        batches.append([len(rows) for feed in feeds for rows in feed.values()])
        return real(shell, arrays, feeds)

    asked = Request(
        SWIN, registry.precision("fp16"), Batch(1, 2, 5), ("sm80",), "tensorrt-rtx", "random", "fp32", tmp_path
    )
    pipeline.prepare(asked, Progress(quiet=True), pipeline.CANONICAL)
    monkeypatch.setattr(rewriting, "_outputs", outputs)
    assert explain.explain(asked, Progress(quiet=True))["compared_at"] == [1, 3, 5]
    assert batches.count([1, 3, 5]) > 5
