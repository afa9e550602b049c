"""The small detector: its scenes, its shipped weights, its training."""

import itertools
import json

import numpy as np
import torch

from exporter import registry, weights
from exporter.types import ModuleSpec
from recipes import detr_digits, digits
from recipes.trained import detector, train

RECIPE = registry.recipe("detr_digits")


def test_scenes_are_seeded_and_their_boxes_hold_what_they_say():
    first, again = (list(detr_digits.scenes(digits.split()[1], 0, 8)) for _ in range(2))
    for (picture, truth), (other, _) in zip(first, again, strict=True):
        np.testing.assert_array_equal(picture, other)
        assert 1 <= len(truth.corners) == len(truth.classes) <= detr_digits.MOST
        assert (truth.corners >= 0).all() and (truth.corners <= detr_digits.CANVAS).all()
        assert ((truth.corners[:, 2:] - truth.corners[:, :2]) >= 4).all()
        for a, b in itertools.combinations(truth.corners, 2):
            assert detr_digits._covered(tuple(a), tuple(b)) <= detr_digits.OVERLAP
    assert sum(len(t.corners) for _, t in first) > 12


def test_the_shipped_weights_find_the_digits_that_no_training_saw():
    """0.93 on all 400 scenes; sixty of them are within a few points of that."""
    assert RECIPE.shipped.stat().st_size <= 2_000_000
    module = weights.module(
        RECIPE, weights.locate(RECIPE, "auto"), ModuleSpec(RECIPE.preprocessing.size, RECIPE.classes)
    )
    facts = json.loads(RECIPE.shipped.with_suffix(".json").read_text())
    assert facts["ap50"] >= 0.8 and facts["epochs"] == train.EPOCHS["detr_digits"]
    assert abs(detector.precision(module, RECIPE, 60).ap50 - facts["ap50"]) < 0.05


def test_training_learns_is_seeded_and_freezes_what_it_learnt():
    losses = []
    made = [
        detector.train(RECIPE, 2, lambda progress: 1.0, said=lambda epoch, loss: losses.append(loss), batch=4, steps=3)
        for _ in range(2)
    ]
    assert losses[:2] == losses[2:] and losses[1] < losses[0]
    for a, b in zip(made[0].state_dict().values(), made[1].state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in made[0].modules())
    assert not made[0].training
