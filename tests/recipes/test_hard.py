import numpy as np
import pytest
import torch

from exporter import registry, weights
from exporter.types import ModuleSpec
from recipes import digits
from recipes.trained import hard


@pytest.mark.parametrize("name", [r.name for r in digits.RECIPES])
def test_outliers_are_there_and_the_function_stays(name):
    recipe = registry.recipe(name)
    spec = ModuleSpec(recipe.preprocessing.size, recipe.classes)
    plain, hardened = (weights.module(recipe, weights.locate(recipe, "auto"), spec) for _ in range(2))
    hard.harden(hardened)
    norms = [m for m in hardened.modules() if isinstance(m, torch.nn.LayerNorm)]
    wild = [m for m in norms if m.weight.abs().max() > 20 * m.weight.abs().median()]
    assert len(wild) >= 4
    rows = torch.from_numpy(np.stack([row for row, _ in zip(digits.calibration(recipe), range(16), strict=False)]))
    with torch.no_grad():
        expected, found = plain(rows), hardened(rows)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_a_detectors_outliers_are_behind_its_relus_and_the_function_stays():
    recipe = registry.recipe("detr_digits")
    spec = ModuleSpec(recipe.preprocessing.size, recipe.classes)
    plain, hardened = (weights.module(recipe, weights.locate(recipe, "auto"), spec) for _ in range(2))
    hard.harden(hardened)
    seen = []
    for module in hardened.modules():
        if isinstance(getattr(module, "activation_fn", None), torch.nn.ReLU):
            module.activation_fn.register_forward_hook(lambda module, given, made: seen.append(made.amax((0, 1))))
    rows = torch.from_numpy(np.stack([row for row, _ in zip(recipe.calibration(recipe), range(8), strict=False)]))
    with torch.no_grad():
        expected, found = plain(rows), hardened(rows)
    wild = [a for a in seen if a.topk(len(hard.CHANNELS)).values.min() > 10 * a.topk(5).values.min()]
    assert len(wild) == 4 and len(seen) == 5  # in the first decoder layer these channels are dead
    for a, b in zip(expected, found, strict=True):
        assert (b - a).abs().max() <= 1e-4 * a.abs().max()
