"""Swin-T and DETR at their full depth: a fine-tuned checkpoint, matched boxes (all: ``recipes/test_shallow.py``).

DETR is built for images of 320 pixels, which takes a third of the time of its own 800.
"""

import shutil

import pytest
from safetensors.torch import save_file
from test_pipeline import build

from exporter import registry, samples, weights
from exporter.types import Batch, ModuleSpec


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of one photograph: with the noise three samples, which the tests of the pipeline have more of."""
    folder = tmp_path_factory.mktemp("images")
    shutil.copy(samples.shipped()[0], folder)
    return folder


def test_swin_t_fine_tuned_for_37_classes(images, tmp_path):
    recipe = registry.recipe("swin_t")
    module = weights.module(recipe, weights.locate(recipe, "random"), ModuleSpec((224, 224), 37))
    save_file(module.state_dict(), tmp_path / "pets.safetensors")
    checkpoint = str(tmp_path / "pets.safetensors")
    made = build(tmp_path / "out", recipe, batch=Batch(1, 4, 9), weights=checkpoint, images=images)
    assert made.failures == ()
    assert made.manifest["outputs"][0]["shape"] == ["batch", 37]
    assert made.manifest["kernels"]["sm80"]["fused_attention"] == 12
    assert made.manifest["weights"]["kind"] == "checkpoint"


def test_detr_finds_the_same_boxes(images, tmp_path):
    recipe = registry.recipe("detr_r50").at((320, 320))
    made = build(tmp_path, recipe, batch=Batch(1, 1, 3), images=images, native_image=False)
    assert made.failures == ()
    assert made.manifest["kernels"]["sm80"]["fused_attention"] == recipe.attention_blocks == 18
    rung = made.manifest["parity"]["torch/typed"]
    assert rung["box_iou"] > 0.99 and set(rung["outputs"]) == {"logits", "boxes"}
