"""Every recipe of the registry through the real tools, with a few of its blocks where the whole one is slow.

Export, rewrites with the counts that are due, FP16 compiled for sm80, the fusion contract, parity: one of each family;
with EVERY=1 one of each structure, and of the others, which differ from it in width or depth alone, the export
and the rewrites. ``make zoo`` builds every recipe whole.
"""

import os
import shutil

import pytest
from test_pipeline import build, request

from exporter import pipeline, registry, samples
from exporter.progress import Progress
from exporter.types import Batch

ELSEWHERE = {
    "detr": "tests/test_families.py builds it whole, for smaller images",
    "digits": "tests/test_runtime.py builds the ViT, tests/test_accuracy.py judges what was trained",
    "swin": "tests/test_families.py builds Swin-T whole",
    "vit": "tests/test_cli.py builds ViT-Ti whole",
}
"""Families that other tests build, and where; EVERY=1 builds them here, too."""


def structure(recipe):
    """What recipes have in common whose networks differ in width or depth alone, however deep they are."""
    few = recipe.shallow or recipe
    return repr((recipe.family, few.preprocessing, few.rewrites, few.attention_blocks))


RECIPES = {name: recipe for name, recipe in registry.recipes().items() if name != "detr_r50"}
BY_SIZE = sorted(RECIPES, key=lambda name: RECIPES[name].published[1])
SMALLEST = {structure(RECIPES[name]): name for name in reversed(BY_SIZE)}.values()
FIRST = {RECIPES[name].family: name for name in reversed(BY_SIZE) if RECIPES[name].family not in ELSEWHERE}.values()


def _marked(names, cheap=()):
    """Parameters; those that are not ``cheap`` are skipped unless EVERY=1."""
    rest = pytest.mark.skipif(not os.environ.get("EVERY"), reason="EVERY=1 takes ten minutes more for all recipes")
    return [name if name in cheap else pytest.param(name, marks=rest) for name in sorted(names)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """One photograph: with the noise, three samples."""
    folder = tmp_path_factory.mktemp("images")
    shutil.copy(samples.shipped()[0], folder)
    return folder


def test_no_family_is_left_out():
    assert {r.family for r in registry.recipes().values()} == {RECIPES[name].family for name in FIRST} | set(ELSEWHERE)


@pytest.mark.parametrize("name", _marked(SMALLEST, FIRST))
def test_it_exports_is_rewritten_compiles_and_computes_what_torch_does(name, images, tmp_path):
    recipe = RECIPES[name].shallow or RECIPES[name]
    made = build(tmp_path, recipe, batch=Batch(3, 3, 3), images=images)
    assert made.failures == () and made.manifest["status"] == "passed"
    kernels = made.manifest["kernels"]["sm80"]
    assert kernels["fused_attention"] >= recipe.fused_attention.get("fp16", 0)
    assert made.manifest["parity"]["torch/typed"]["status"] == "passed"


@pytest.mark.parametrize("name", _marked(RECIPES.keys() - set(SMALLEST)))
def test_it_exports_and_its_rewrites_match_as_often_as_is_due(name, tmp_path):
    recipe = RECIPES[name].shallow or RECIPES[name]
    asked = request(tmp_path, recipe, batch=Batch(3, 3, 3))
    made = pipeline.prepare(asked, Progress(quiet=True), pipeline.CANONICAL).entries["rewrite"].meta["rewrites"]
    due = {step.name: step.matches for step in recipe.rewrites if step.matches is not None}
    assert {r["name"]: r["matches"] for r in made if r["name"] in due} == due
