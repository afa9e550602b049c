from dataclasses import replace

import pytest
from models import MIXER, SWIN, VIT

from exporter import growth

D, HIDDEN, DEPTH, CLASSES = 128, 512, 2, 10  # of models.VIT


def vit_flops(side):
    """A ViT's FLOPs from its paper: patches, four projections, two products of attention, an MLP, the head."""
    tokens = (side // 16) ** 2 + 1
    attention = DEPTH * 2 * 2 * tokens**2 * D
    block = 2 * tokens * D * (4 * D + 2 * HIDDEN)
    return 2 * (tokens - 1) * D * 3 * 16**2 + DEPTH * block + attention + 2 * D * CLASSES, attention


@pytest.mark.parametrize("side", [64, 128])
def test_a_vits_cost_is_what_pen_and_paper_say(side):
    found = growth.cost(VIT.at((side, side)))
    assert (found.flops, found.attention_flops) == vit_flops(side)
    tokens = (side // 16) ** 2 + 1
    assert found.widest_attention == 2 * tokens**2 and found.attention_elements == 2 * found.widest_attention
    assert found.parameters == sum(p.numel() for p in VIT.at((side, side)).build(_spec(side)).parameters())


def _spec(side):
    from exporter.types import ModuleSpec

    return ModuleSpec((side, side), CLASSES)


def test_windows_grow_linearly_and_global_attention_quadratically():
    vit = growth.exponents(growth.costs(VIT))
    swin = growth.exponents(growth.costs(SWIN))  # 112 pixels are 28x28 tokens: whole windows at every size
    assert vit[0] is None and vit[-1] == pytest.approx(2, abs=0.05)
    assert swin[1:] and swin[1:] == pytest.approx([1] * len(swin[1:]), abs=0.01)


def test_without_attention_there_is_nothing_to_grow():
    found = growth.costs(replace(MIXER, fixed_image=True))
    assert len(found) == 1 and found[0].attention_flops == found[0].widest_attention == 0
    assert growth.exponents(found) == [None]


def test_memory_is_weights_and_the_widest_operator():
    found = growth.cost(VIT)
    assert found.needed(4, 2, 2) == 2 * found.parameters + 4 * 2 * found.widest
    tokens = (64 // 16) ** 2 + 1
    assert found.widest == 2 * tokens * HIDDEN  # GELU reads and writes the hidden layer


def test_a_module_that_looks_at_values_runs_on_one_real_image():
    import torch

    class Looks(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(3, 5)

        def forward(self, pixels):
            tokens = pixels.flatten(2).transpose(1, 2)
            attended = torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
            return self.head(attended.mean(1)) * (1 if pixels.sum().item() >= 0 else 2)

    recipe = replace(VIT, build=lambda spec: Looks().eval())
    tokens = 64 * 64
    found = growth.cost(recipe)
    assert found.attention_flops == 2 * 2 * tokens**2 * 3 and found.flops == found.attention_flops + 2 * 3 * 5
    assert growth.cost(recipe, on_values=False) is None
