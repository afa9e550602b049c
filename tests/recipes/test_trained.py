import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from exporter import registry
from exporter.types import ModuleSpec
from recipes import digits
from recipes.trained import train

NAMES = [r.name for r in digits.RECIPES]


def test_held_out_digits_are_in_no_training():
    (trained, _), (held, _) = digits.split()
    known = {picture.tobytes() for picture in trained}
    assert len(held) == digits.HELD_OUT and len(trained) + len(held) == 1797
    assert sum(picture.tobytes() in known for picture in held) == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_weights_know_the_held_out_digits(name):
    recipe = registry.recipe(name)
    assert recipe.shipped.stat().st_size <= 2_000_000
    module = recipe.build(ModuleSpec(recipe.preprocessing.size, recipe.classes))
    module.load_state_dict(load_file(recipe.shipped))
    found = train.accuracy(module, recipe)
    facts = json.loads(recipe.shipped.with_suffix(".json").read_text())
    assert found >= 0.97 and found == pytest.approx(facts["accuracy"], abs=1 / digits.HELD_OUT)


def test_every_recipe_has_its_number_of_epochs():
    for name in NAMES:
        facts = json.loads(registry.recipe(name).shipped.with_suffix(".json").read_text())
        assert facts["epochs"] == train.EPOCHS[name]


def test_training_learns_and_is_seeded():
    losses = []
    recipe = registry.recipe("mixer_digits")
    first = train.train(recipe, 5, said=lambda epoch, loss: losses.append(loss), count=128)
    second = train.train(recipe, 5, count=128)
    assert losses[-1] < losses[0]
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_digits_are_moved_and_none_is_lost():
    images = torch.from_numpy(
        np.stack([digits.pixels(p, registry.recipe("vit_digits")) for p in digits.split()[0][0][:64]])
    )
    moved = train.moved(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape and (moved - images).abs().mean() > 0.05
    assert ((moved > 0).flatten(1).sum(1) > 0.3 * (images > 0).flatten(1).sum(1)).all()
