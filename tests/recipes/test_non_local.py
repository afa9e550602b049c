import pytest
import torch

from recipes.modules.non_local import PLACES, NonLocal, non_local_resnet50


def test_a_block_is_a_residual_attention_over_every_second_places_maximum():
    torch.manual_seed(0)
    block = NonLocal(6).eval()
    x = torch.randn(2, 6, 4, 6)
    got = block(x)
    pooled = x.unflatten(2, (2, 2)).unflatten(4, (3, 2)).amax((3, 5)).flatten(2)
    maps = {name: getattr(block, name) for name in ("theta", "phi", "g")}
    place = {name: lambda v, c=c: c.weight[:, :, 0, 0] @ v + c.bias for name, c in maps.items()}
    scale = block.out[1].running_var.add(block.out[1].eps).rsqrt()
    for row, column in ((0, 0), (3, 5), (2, 1)):  # one place at a time, as the paper's sum over j
        query = place["theta"](x[1, :, row, column])
        keys = torch.stack([place["phi"](pooled[1, :, j]) for j in range(6)])
        values = torch.stack([place["g"](pooled[1, :, j]) for j in range(6)])
        share = torch.exp(keys @ query) / torch.exp(keys @ query).sum()
        expected = x[1, :, row, column] + block.out[0].weight[:, :, 0, 0] @ (share @ values) * scale
        assert torch.allclose(got[1, :, row, column], expected, atol=1e-5)  # values of size 1 in another order


def test_five_blocks_add_two_c_squared_weights_each():
    with torch.device("meta"):
        module = non_local_resnet50(1000)
    blocks = [m for m in module.modules() if isinstance(m, NonLocal)]
    assert len(blocks) == sum(map(len, PLACES.values())) == 5
    weights = sum(p.numel() for m in blocks for p in m.parameters() if p.dim() == 4)
    assert weights == 2 * (2 * 512**2 + 3 * 1024**2)
    assert sum(p.numel() for p in module.parameters()) / 1e6 == pytest.approx(25.56 + weights / 1e6, abs=0.03)
