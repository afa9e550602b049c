"""Every recipe of the registry through the real tools, with a few of its blocks where the whole one is slow.

The smallest of each structure is built: export, rewrites with the counts that are due, FP16 compiled for sm80, the
fusion contract, parity. Those that differ from it in width or depth alone are exported and rewritten, each rewrite
compared; ``make zoo`` builds every one of them whole.
"""

import shutil

import pytest
from test_pipeline import build, request

from exporter import pipeline, registry, samples
from exporter.progress import Progress
from exporter.types import Batch

ELSEWHERE = {"detr_r50": "tests/test_families.py builds it whole, for smaller images"}


def structure(recipe):
    """What recipes have in common whose networks differ in width or depth alone, however deep they are."""
    few = recipe.shallow or recipe
    return repr((recipe.family, few.preprocessing, few.rewrites, few.attention_blocks))


RECIPES = {name: recipe for name, recipe in registry.recipes().items() if name not in ELSEWHERE}
SMALLEST = {}
for _name, _recipe in sorted(RECIPES.items(), key=lambda item: item[1].published[1]):
    SMALLEST.setdefault(structure(_recipe), _name)
WHOLE = sorted(SMALLEST.values())
WIDER = sorted(RECIPES.keys() - set(WHOLE))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """One photograph: with the noise, three samples."""
    folder = tmp_path_factory.mktemp("images")
    shutil.copy(samples.shipped()[0], folder)
    return folder


def test_no_family_is_left_out():
    assert {RECIPES[name].family for name in WHOLE} == {recipe.family for recipe in RECIPES.values()}


@pytest.mark.parametrize("name", WHOLE)
def test_it_exports_is_rewritten_compiles_and_computes_what_torch_does(name, images, tmp_path):
    recipe = RECIPES[name].shallow or RECIPES[name]
    made = build(tmp_path, recipe, batch=Batch(1, 2, 3), images=images)
    assert made.failures == () and made.manifest["status"] == "passed"
    kernels = made.manifest["kernels"]["sm80"]
    assert kernels["fused_attention"] >= recipe.fused_attention.get("fp16", 0)
    assert made.manifest["parity"]["torch/typed"]["status"] == "passed"


@pytest.mark.parametrize("name", WIDER)
def test_it_exports_and_its_rewrites_match_as_often_as_is_due(name, tmp_path):
    recipe = RECIPES[name].shallow or RECIPES[name]
    asked = request(tmp_path, recipe, batch=Batch(1, 2, 3))
    made = pipeline.prepare(asked, Progress(quiet=True), pipeline.CANONICAL).entries["rewrite"].meta["rewrites"]
    due = {step.name: step.matches for step in recipe.rewrites if step.matches is not None}
    assert {r["name"]: r["matches"] for r in made if r["name"] in due} == due
