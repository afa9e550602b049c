import pytest
import torch
from torchvision.ops import deform_conv2d

from exporter import registry
from exporter.types import ModuleSpec
from recipes.modules.cyclemlp import CycleFC


@pytest.mark.parametrize("axis", [1, 2])
def test_a_cyclefc_is_the_deformable_convolution_that_the_paper_writes_it_as(axis):
    torch.manual_seed(0)
    layer = CycleFC(10, axis)
    x = torch.randn(2, 5, 6, 10)
    offsets = torch.zeros(2, 10, 2, 5, 6)  # (batch, channel, down and right, row, column)
    offsets[:, :, axis - 1] = torch.tensor([(c + 1) % 3 - 1 for c in range(10)])[:, None, None]
    expected = deform_conv2d(x.permute(0, 3, 1, 2), offsets.flatten(1, 2), layer.weight, layer.bias)
    assert torch.allclose(layer(x).permute(0, 3, 1, 2), expected, atol=1e-5)  # values of size 1 in another order


def test_the_authors_checkpoints_load_without_their_offsets():
    recipe = registry.recipe("cyclemlp_b1")
    with torch.device("meta"):
        module = recipe.build(ModuleSpec((224, 224), 1000))
    theirs = module.state_dict() | {"network.0.0.attn.sfc_h.offset": torch.zeros(1, 128, 1, 1)}
    assert recipe.adapt(theirs, module).keys() == module.state_dict().keys()
    assert {"patch_embed.proj.weight", "network.0.1.attn.reweight.fc1.bias", "network.5.proj.weight"} <= theirs.keys()
