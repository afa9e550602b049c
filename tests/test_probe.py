import ml_dtypes
import models
import numpy as np
import onnx
import pytest
import torch
from graphs import graph

from exporter import blame, casting, probe, registry, trace
from exporter.types import ModuleSpec

FP16 = registry.precision("fp16")


@pytest.fixture(scope="module")
def loud():
    """A ViT in which one channel of one MLP answers 100000, and its graph."""
    torch.manual_seed(0)
    recipe = models.VIT
    module = recipe.build(ModuleSpec(recipe.preprocessing.size, recipe.classes))
    fc2 = module.blocks[0].mlp.fc2
    with torch.no_grad():
        fc2.weight[3] = fc2.weight[3].abs() * 1e5 / fc2(torch.ones(1, fc2.in_features))[0, 3].abs()
    pixels = np.random.default_rng(0).standard_normal((5, *recipe.inputs[0].shape), dtype=np.float32)
    return recipe, module, trace.export(module, recipe), pixels


def test_the_range_of_every_tensor_is_what_numpy_says():
    made = graph("(float[B, 3] x) => (float[B, 3] y) { a = Add(x, x) b = Mul(a, x) y = Neg(b) }")
    x = np.random.default_rng(0).standard_normal((2 * probe.BATCH + 1, 3)).astype(np.float32)
    found = probe.observe(made, x)
    for name, values in (("a", x + x), ("b", 2 * x * x), ("y", -2 * x * x)):
        assert (found[name].low, found[name].high) == pytest.approx((values.min(), values.max()), rel=1e-6)
    assert found["a"].as_dict()["headroom"]["float16"] == pytest.approx(65504 / np.abs(x + x).max(), rel=1e-3)


def test_what_leaves_the_range_is_named_and_what_comes_near_it_too(loud):
    _, _, model, pixels = loud
    found = probe.observe(model, pixels)
    beyond = probe.beyond(found, "float16")
    assert beyond and all(found[n].amax > float(ml_dtypes.finfo("float16").max) for n in beyond)
    assert not probe.beyond(found, "bfloat16")
    assert set(beyond) <= set(probe.beyond(found, "float16", probe.NARROW))
    assert any(found[n].node.startswith("blocks.0.mlp.fc2/") for n in beyond)


def test_a_tensor_that_was_seen_to_leave_the_range_is_never_typed_fp16(loud):
    recipe, module, model, pixels = loud
    beyond = probe.beyond(probe.observe(model, pixels), "float16")

    def judged(**how):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        rung = blame.foreign(casting.cast(copy, FP16, **how).model, "typed", recipe)[-1]
        return blame.judge(rung, module, recipe, pixels)

    assert judged()[0]["status"] == "failed"
    report, _, guilty = judged(beyond=beyond)
    assert report["status"] == "passed" and guilty is None
