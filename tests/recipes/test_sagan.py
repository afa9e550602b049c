import pytest
import torch

from recipes.modules.sagan import Discriminator, SelfAttention


def test_the_block_is_a_residual_attention_over_every_second_places_maximum():
    torch.manual_seed(0)
    block = SelfAttention(16).eval()
    with torch.no_grad():
        block.gamma.fill_(0.7)
    x = torch.randn(2, 16, 4, 6)
    got = block(x)
    weight = {name: getattr(block, name).weight[:, :, 0, 0] for name in ("query", "key", "value", "out")}

    def pooled(name):
        return (weight[name] @ x[1].flatten(1)).unflatten(1, (2, 2, 3, 2)).amax((2, 4)).flatten(1)

    keys, values = pooled("key"), pooled("value")
    for row, column in ((0, 0), (3, 5), (2, 1)):  # one place at a time
        share = torch.exp(keys.T @ (weight["query"] @ x[1, :, row, column]))
        mixed = values @ (share / share.sum())
        expected = x[1, :, row, column] + 0.7 * weight["out"] @ mixed
        assert torch.allclose(got[1, :, row, column], expected, atol=1e-5)  # values of size 1 in another order


def test_every_weight_is_divided_by_its_largest_singular_value():
    torch.manual_seed(0)
    module = Discriminator(5).eval()
    normed = [m for m in module.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    assert len(normed) == 2 * 6 + 5 + 4 + 2  # blocks, shortcuts of the five that widen, attention, psi and embedding
    small = [m for m in normed if m.weight[0].numel() <= 1200]  # 15 steps of power iteration come within some percent
    assert [torch.linalg.matrix_norm(m.weight.flatten(1), 2).item() for m in small] == pytest.approx(
        [1.0] * len(small), abs=0.1
    )


def test_a_score_is_what_the_projection_of_its_class_adds():
    torch.manual_seed(0)
    module = Discriminator(5).eval()
    x = torch.randn(1, 3, 64, 64)
    h = module.body(x).relu().sum((2, 3))
    assert torch.allclose(module(x)[0, 3], (module.psi(h) + module.embedding.weight[3] @ h[0])[0, 0], rtol=1e-5)
