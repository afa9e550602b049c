"""What a detector's heads compute in: a box's place needs more than BF16's eight bits."""

from dataclasses import replace

import pytest
import torch
from graphs import types
from models import DETR

from exporter import pipeline, registry
from exporter.progress import Progress
from exporter.sources import _common
from exporter.stages import typed
from exporter.types import Batch, ModuleSpec, Request
from recipes import detr


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    out = tmp_path_factory.mktemp("detr")
    recipe = replace(DETR, wide=detr.WIDE)
    batch = Batch(1, 2, 3)
    return Request(recipe, registry.precision("bf16"), batch, ("sm80",), "tensorrt-rtx", "random", "fp32", out)


@pytest.mark.parametrize("precision, heads", [("bf16", "FLOAT"), ("fp16", "FLOAT16"), ("int8-bf16", "FLOAT")])
def test_around_bf16_boxes_and_classes_are_made_in_fp32(asked, precision, heads):
    asked = replace(asked, precision=registry.precision(precision))
    build = pipeline.prepare(asked, Progress(quiet=True), pipeline.STAGES[: pipeline.STAGES.index(typed) + 1])
    model = build.model("type", typed.FILE)
    kinds = types(model)
    products = {n.name: kinds[n.output[0]] for n in model.graph.node if n.op_type in ("MatMul", "Gemm")}
    of_heads = [kind for name, kind in products.items() if name.startswith(("class_labels", "bbox_predictor"))]
    assert of_heads == [heads] * 4
    assert heads not in [kind for name, kind in products.items() if "fc1" in name] or precision == "fp16"
    if precision == "int8-bf16":
        left = build.entries["type"].meta["left"]
        kept = [n for n, why in left.items() if why == "the recipe keeps its module wider"]
        assert all(any(word in n for n in kept) for word in ("bbox", "class_labels", "model.decoder.layers.1.mlp"))
        assert not any("encoder.layers" in n for n in kept)


def test_the_recipes_heads_are_those_of_any_detector():
    with torch.device("meta"):
        module = DETR.build(ModuleSpec((128, 128), 11))
    assert {k: set(v) for k, v in detr.WIDE.items()} == {k: set(v) for k, v in _common.kept_wide(module).items()}
