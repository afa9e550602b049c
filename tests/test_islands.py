"""Budgets of 16-bit builds of a two-block model: real images, the real compiler."""

import json
from dataclasses import replace

import onnx
import pytest
from models import VIT

from exporter import casting, pipeline, registry
from exporter.errors import UsageError
from exporter.goal import Goal
from exporter.naming import ROOT, block_of, part_of, path_of
from exporter.progress import Progress
from exporter.types import Request


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("out")


def build(out, precision="fp16", recipe=VIT, **fields):
    fields = {"batch": recipe.batch, "targets": ("sm80",), "backend": "tensorrt-rtx", "weights": "random",
              "io": "fp32", "command": "test"} | fields  # fmt: skip
    asked = Request(recipe=recipe, precision=registry.precision(precision), out=out, **fields)
    return pipeline.run(asked, Progress(quiet=True))


@pytest.fixture(scope="module")
def free(out):
    return build(out)


@pytest.fixture(scope="module")
def bounded(free, out):
    """Half of the error that the free build has."""
    error = free.manifest["parity"]["rewritten/typed"]["relative_max"]
    return build(out, goal=Goal(error=error / 2)), error / 2


def test_without_a_budget_there_are_no_islands(free):
    assert free.manifest["islands"] is None and not (free.folder / "islands.json").exists()
    assert not any("island" in why for why in free.manifest["kept_fp32"].values())


def test_a_budget_is_kept_and_proven_by_parity(bounded):
    made, limit = bounded
    facts, rung = made.manifest["islands"], made.manifest["parity"]["rewritten/typed"]
    assert made.failures == () and facts["kept"] and facts["after"]["relative_max"] <= limit
    assert facts["before"]["relative_max"] > limit
    assert rung["status"] == "passed" and rung["relative_max"] <= rung["tolerance"]["relative_max"] == limit
    assert facts["goal"] == f"MAX_ERROR={limit:g}" and facts["images"] == 8


def test_what_is_kept_is_in_fp32_and_nothing_else_is(bounded):
    made, _ = bounded
    kept = set(made.manifest["islands"]["kept"])
    model = onnx.shape_inference.infer_shapes(onnx.load(made.folder / "model.onnx"), strict_mode=True)
    types = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.output)}
    for node in model.graph.node:
        path = path_of(node.name)
        if node.op_type == "MatMul":
            wide = bool(kept & {block_of(path), part_of(path)})
            assert types[node.output[0]] == (casting.FLOAT if wide else onnx.TensorProto.FLOAT16), node.name


def test_blocks_are_ranked_with_their_errors_and_costs(bounded):
    made, _ = bounded
    report = json.loads((made.folder / "islands.json").read_text())
    ranked = report["ranked"]
    assert {row["block"] for row in ranked} <= {"blocks.0", "blocks.1", "patch_embed", "norm", "head", ROOT}
    assert all(row["error"] >= 0 for row in ranked)
    assert sum(row["recovered"] for row in ranked) == pytest.approx(1.0, abs=1e-3)  # rounded to four places
    errors = [row["relative_max"] for row in report["search"]]
    assert errors[0] == max(errors) and errors[-1] < errors[0]


def test_attention_in_an_island_is_not_due_to_be_fused(free, out, monkeypatch):
    """As if only attention in FP32 kept the budget."""
    from exporter import budget

    def measure(self, typed):
        narrow = typed is not None and any(
            n.op_type == "Softmax" and "blocks.1" in n.name and n.name not in wide(typed) for n in typed.graph.node
        )
        return {"drop": 50.0 * narrow, "relative_max": 0.0}

    def wide(typed):
        types = {
            v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(typed).graph.value_info
        }
        return {n.name for n in typed.graph.node if types.get(n.output[0]) == casting.FLOAT}

    monkeypatch.setattr(budget.Answers, "measure", measure)
    monkeypatch.setattr(budget.Answers, "error", lambda self, typed: measure(self, typed)["drop"])
    made = build(out, goal=Goal(drop=40.0))
    assert made.manifest["islands"]["kept"] == ["blocks.1.attn"]
    assert made.failures == () and len(made.manifest["unfused_attention"]) == 1


def test_too_few_images_for_a_share_are_said(out):
    with pytest.raises(UsageError, match="too few images") as caught:
        build(out, goal=Goal(drop=0.5))
    assert "8 images" in caught.value.found and caught.value.stage == "islands"


def test_fp32_needs_no_islands(out):
    made = build(out, "fp32", goal=Goal(error=1e-3), recipe=replace(VIT, fused_attention={}))
    assert made.manifest["islands"] is None and made.failures == ()
