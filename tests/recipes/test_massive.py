import numpy as np
import pytest
import torch

from exporter import registry, weights
from exporter.types import ModuleSpec
from recipes import digits
from recipes.trained import massive, train


def trained(name: str):
    recipe = registry.recipe(name)
    return recipe, weights.module(
        recipe, weights.locate(recipe, "auto"), ModuleSpec(recipe.preprocessing.size, recipe.classes)
    )


def residuals(module, recipe) -> dict[str, torch.Tensor]:
    """What each normalisation of a residual is given for 16 digits, (tokens, channels) by its name."""
    seen, hooks = {}, []
    for name, norm in module.named_modules():
        if isinstance(norm, torch.nn.LayerNorm) and not name.startswith("patch_embed"):
            note = lambda _, given, __, name=name: seen.update({name: given[0].flatten(0, -2)})  # noqa: E731
            hooks.append(norm.register_forward_hook(note))
    rows = [row for _, row in zip(range(16), digits.calibration(recipe), strict=False)]
    with torch.no_grad():
        module(torch.from_numpy(np.stack(rows)))
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("name", [r.name for r in digits.RECIPES])
def test_every_residual_has_two_massive_channels_and_the_others_stay_small(name):
    recipe, module = trained(name)
    before = residuals(module, recipe)
    after = residuals(massive.massive(module, recipe, epochs=0), recipe)
    assert before.keys() == after.keys() and len(after) >= 9
    for norm, rows in after.items():
        wild = rows.abs().mean(0) > massive.SIZE / 2
        assert before[norm].abs().max() < massive.SIZE / 5
        assert wild.sum() == (8 if "downsample" in norm else 2), norm  # a merging reads four tokens
        assert rows[:, ~wild].abs().max() < massive.SIZE / 5, norm


def test_the_network_still_tells_digits_apart_before_any_training():
    recipe, module = trained("mixer_digits")
    assert train.accuracy(massive.massive(module, recipe, epochs=0), recipe) > 0.9  # 0.942; 0.1 is chance


def test_without_the_gains_it_would_not():
    recipe, module = trained("mixer_digits")
    with torch.no_grad():
        massive.inject(module)
    assert train.accuracy(module, recipe) < 0.5
