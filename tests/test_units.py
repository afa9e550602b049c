import numpy as np
import torch
from torch import nn

from exporter.units import INPUT, Units, owner


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.fc, self.drop = nn.LayerNorm(8), nn.Linear(8, 8), nn.Dropout()

    def forward(self, x):
        return x + self.drop(self.fc(self.norm(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.blocks, self.act = nn.Linear(8, 8), nn.Sequential(Block(), Block()), nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.blocks(self.stem(x)) * 2)


def net():
    torch.manual_seed(0)
    return Net().eval(), np.random.default_rng(0).standard_normal((3, 4, 8)).astype(np.float32)


def test_units_are_what_computes_and_what_they_are_given_where_no_unit_made_that():
    module, x = net()
    found = Units(module).answers(x)
    assert "blocks.0.fc" in found and "blocks.0.drop" not in found  # hands on what it was given
    assert "blocks.0.norm" + INPUT not in found and "act" + INPUT in found
    assert "blocks" not in found  # what its last block answered
    assert "act" not in found  # writes into its input
    with torch.no_grad():
        assert np.array_equal(found["stem"], module.stem(torch.from_numpy(x)).numpy())
    assert set(Units(module).answers(x, ["stem"])) == {"stem"}


def test_forced_values_are_handed_on_and_an_error_counts_where_it_arises():
    module, x = net()
    units = Units(module)
    plain = units.answers(x)
    wrong = dict(plain) | {"blocks.0.fc": plain["blocks.0.fc"] * 1.5}
    seen = {}
    names = ["stem", "blocks.0.fc", "blocks.0", "blocks.1.fc"]
    units.forced(
        x, names, lambda name, own: wrong[name], lambda name, own, other: seen.update({name: np.abs(own - other).max()})
    )
    assert list(seen) == names
    assert seen["stem"] == 0 and seen["blocks.0.fc"] > 0.1 and seen["blocks.0"] > 0.1 and seen["blocks.1.fc"] < 1e-6


def test_a_value_that_was_given_is_the_parents():
    assert owner("layers.0.attn.proj" + INPUT) == "layers.0.attn" and owner("layers.0.attn") == "layers.0.attn"
    assert owner("norm" + INPUT) == "norm"
