"""Every recipe of the registry through the real tools, with a few of its blocks where the whole one is slow.

Export, rewrites with the counts that are due, FP16 compiled for sm80, the fusion contract, parity.
"""

import shutil

import pytest
from test_pipeline import build

from exporter import registry, samples
from exporter.types import Batch

ELSEWHERE = {"detr_r50": "tests/test_families.py builds it whole, for smaller images"}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """One photograph: with the noise, three samples."""
    folder = tmp_path_factory.mktemp("images")
    shutil.copy(samples.shipped()[0], folder)
    return folder


@pytest.mark.parametrize("name", [name for name in registry.recipes() if name not in ELSEWHERE])
def test_it_exports_is_rewritten_compiles_and_computes_what_torch_does(name, images, tmp_path):
    recipe = registry.recipe(name)
    recipe = recipe.shallow or recipe
    made = build(tmp_path, recipe, batch=Batch(1, 2, 3), images=images)
    assert made.failures == () and made.manifest["status"] == "passed"
    kernels = made.manifest["kernels"]["sm80"]
    assert kernels["fused_attention"] >= recipe.fused_attention.get("fp16", 0)
    assert made.manifest["parity"]["torch/typed"]["status"] == "passed"
