import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from recipes.modules.sasa import HEADS, SASA, Attention, Stem


@pytest.mark.parametrize("height, width", [(8, 8), (7, 11), (16, 12)])
def test_attention_is_the_papers_formula_at_every_place(height, width):
    torch.manual_seed(0)
    layer = Attention(32).eval()
    x = torch.randn(2, 32, height, width)
    q, k, v = functional.pad(layer.qkv(x), (3,) * 4)[1].unflatten(0, (3, HEADS, 4))  # beyond the border are zeros
    rows, columns = layer.of_rows[:, None].expand(7, 7, 2), layer.of_columns.expand(7, 7, 2)
    distance = torch.cat((rows, columns), -1).permute(2, 0, 1)  # (4, 7, 7)
    expected = torch.empty(HEADS, 4, height, width)
    for row in range(height):
        for column in range(width):
            window = ..., slice(row, row + 7), slice(column, column + 7)
            query = q[:, :, row + 3, column + 3, None, None]
            share = (query * (k[window] + distance)).sum(1).flatten(1).softmax(-1).unflatten(1, (1, 7, 7))
            expected[..., row, column] = (share * v[window]).sum((-2, -1))
    assert torch.allclose(layer(x)[1], expected.flatten(0, 1), atol=1e-5)  # values of size 1 in another order


def test_the_stems_values_are_mixtures_by_place():
    torch.manual_seed(0)
    stem = Stem().eval()
    x = torch.randn(1, 3, 6, 5)
    padded = functional.pad(x, (1, 2, 1, 2))[0]
    got = stem(x)[0].unflatten(0, (HEADS, 8))
    for row, column in ((0, 0), (2, 3), (5, 4)):
        query = stem.query @ x[0, :, row, column]  # (heads, 8)
        scores, values = [], []
        for a in range(4):
            for b in range(4):
                pixel = padded[:, row + a, column + b]
                scores.append((query * (stem.key @ pixel)).sum(-1))
                mixture = ((stem.of_rows[a] + stem.of_columns[b]) @ stem.mixtures.T).softmax(0)
                values.append(torch.einsum("m,moc,c->o", mixture, stem.value, pixel).unflatten(0, (HEADS, 8)))
        share = torch.stack(scores).softmax(0)
        expected = (share[..., None] * torch.stack(values)).sum(0)
        assert torch.allclose(got[..., row, column], expected, atol=1e-5)


def test_the_papers_gflops_are_those_of_its_formulas():
    """Linear layers as the module has them; in a window the paper counts q . k, q . distance and the values' sum."""
    with torch.device("meta"):
        module = SASA(1000, (3, 4, 6, 3))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, 3, 224, 224, device="meta"))
    counts = counter.get_flop_counts()
    linear = sum(f for name, f in counts["Global"].items() if str(name) in ("aten.convolution", "aten.addmm")) / 2
    linear -= sum(counts["SASA.stem.0"].values()) / 2
    stem = 224**2 * (6 * 64 * 3 + 2 * 16 * 64)  # queries, keys and four values of 3 channels; windows of 16
    places = 3 * 64 * 56**2 + 128 * (56**2 + 3 * 28**2) + 256 * (28**2 + 5 * 14**2) + 512 * (14**2 + 2 * 7**2)
    assert (linear + stem + 3 * 49 * places) / 1e9 == pytest.approx(3.6, rel=0.03)  # the paper: 7.2 BFLOPs
