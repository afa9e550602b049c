import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from recipes.modules.lr_net import LocalRelation, LRNet


@pytest.mark.parametrize("height, width, channels, stride", [(16, 7, 16, 1), (10, 12, 20, 2), (11, 11, 8, 1)])
def test_a_relation_is_the_papers_formula_at_every_place(height, width, channels, stride):
    torch.manual_seed(0)
    layer = LocalRelation(channels, stride).eval()
    x = torch.randn(2, channels, height, width)
    maps = (layer.query, layer.key, layer.value)
    q, k, v = (functional.pad(each(x), (3,) * 4)[1] for each in maps)  # beyond the border are zeros
    prior = layer.prior(layer.places).unflatten(0, (7, 7))  # (7, 7, groups)
    expected = torch.empty(channels, height // stride, width // stride)
    for row in range(height // stride):
        for column in range(width // stride):
            top, left = row * stride, column * stride
            window = slice(top, top + 7), slice(left, left + 7)
            for channel in range(channels):
                group = channel // 8
                distance = q[group, top + 3, left + 3] - k[group][window]
                share = (prior[..., group] - distance**2).flatten().softmax(0).unflatten(0, (7, 7))
                expected[channel, row, column] = (share * v[channel][window]).sum()
    assert torch.allclose(layer(x)[1], expected, atol=1e-5)  # values of size 1 in another order


def test_the_papers_gflops_are_the_linear_layers():
    with torch.device("meta"):
        module = LRNet(1000, (3, 4, 6, 3))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, 3, 224, 224, device="meta"))
    found = {str(name): flops / 2e9 for name, flops in counter.get_flop_counts()["Global"].items()}
    assert found["aten.convolution"] + found["aten.addmm"] == pytest.approx(4.3, abs=0.01)
    # a place's 49 values a channel, for 64 channels at 112 pixels and the widths of the four stages
    windows = 49 * (64 * 112**2 + 3 * 100 * 56**2 + 4 * 200 * 28**2 + 6 * 400 * 14**2 + 3 * 800 * 7**2) / 1e9
    assert windows == pytest.approx(0.145, abs=0.001)
    assert windows < found["aten.bmm"] < 5.2 * windows  # dense blocks: most of a block's keys are another query's
