import torch

from recipes.modules.s2_mlp import S2MLP, spatial_shift


def test_each_quarter_moves_by_one_patch_and_borders_keep_their_own():
    x = torch.arange(9.0).reshape(1, 3, 3, 1).expand(1, 3, 3, 4)
    down, up, right, left = spatial_shift(x)[0].unbind(-1)
    assert down.tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5]]
    assert up.tolist() == [[3, 4, 5], [6, 7, 8], [6, 7, 8]]
    assert right.tolist() == [[0, 0, 1], [3, 3, 4], [6, 6, 7]]
    assert left.tolist() == [[1, 2, 2], [4, 5, 5], [7, 8, 8]]


def test_a_block_sees_one_patch_further_each_time():
    torch.manual_seed(0)
    module = S2MLP(5, 16, 2).eval()
    pixels = torch.zeros(1, 3, 112, 112, requires_grad=True)
    seen = module.blocks(module.patch_embed(pixels).permute(0, 2, 3, 1))[0, 3, 3].sum()
    (gradient,) = torch.autograd.grad(seen, pixels)
    patches = gradient.abs().sum(1).unfold(1, 16, 16).unfold(2, 16, 16).sum((-1, -2))[0] > 0
    distance = (torch.arange(7) - 3).abs()
    assert torch.equal(patches, distance[:, None] + distance <= 2)  # two blocks: a diamond of radius two
