from dataclasses import replace

import pytest
import torch
from models import VIT

from exporter import fits, growth, memory, pipeline, registry, request
from exporter.errors import UsageError
from exporter.progress import Progress
from exporter.types import Batch


def refusal(recipe, batch, available, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: available)
    with pytest.raises(UsageError, match="cannot run here") as caught:
        fits.check(recipe, batch)
    return caught.value


def test_igpt_at_128_pixels_is_refused_with_the_arithmetic_and_without_the_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "available_bytes", lambda: 64 * 10**9)
    before = memory.peak_bytes()
    with pytest.raises(UsageError, match=r"at 128x128 pixels: 75\.5 GB at least") as caught:
        words = {"image": "128", "weights": "random", "target": "sm80", "out": str(tmp_path)}
        pipeline.run(request.parse("igpt_s", **words), Progress(quiet=True))
    assert caught.value.exit_code == 2
    arithmetic = "16384 x 16384 tokens x 8 heads x 4 bytes = 8.6 GB a layer, 206.2 GB in 24 layers"
    assert arithmetic in caught.value.found and "64.0 GB available" in caught.value.found
    assert caught.value.next == "BATCH=1:1:3"  # 6.8 GB and three times 17.2 are 58.3
    assert memory.peak_bytes() - before < 2 * 10**9


def test_the_lectures_igpt_needs_768_gib_of_attention_for_one_image():
    """48 layers of 16 heads over 128 x 128 pixels."""

    def build(spec):
        from transformers import ImageGPTConfig, ImageGPTModel

        class OfIds(ImageGPTModel):
            def forward(self, pixels):
                return super().forward(pixels.mean(1).flatten(1).long()).last_hidden_state

        return OfIds(ImageGPTConfig(n_positions=128 * 128, n_layer=48, n_head=16, n_embd=32, use_cache=False)).eval()

    found = growth.cost(replace(VIT.at((128, 128)), build=build), on_values=False)
    assert 4 * found.attention_elements == 768 * 2**30
    assert found.matrices == ((1, 16, 16384, 16384),) * 48


def test_what_an_operator_holds_is_its_inputs_and_its_output(monkeypatch):
    recipe = replace(VIT, build=lambda spec: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, 10)))
    cost = growth.cost(recipe)
    assert (cost.held, cost.stored_bytes) == (3 * 64 * 64 + 10, 4 * (3 * 64 * 64 * 10 + 10))
    need = fits.needed(cost, 7)
    assert need == cost.stored_bytes + 7 * 4 * cost.held
    monkeypatch.setattr(memory, "available_bytes", lambda: need)
    fits.check(recipe, Batch(1, 4, 7))
    found = refusal(recipe, Batch(1, 4, 7), need - 1, monkeypatch)
    assert "attention" not in found.found and found.next == "BATCH=1:4:6"
    assert "IMAGE=" in refusal(recipe, Batch(1, 4, 7), cost.stored_bytes, monkeypatch).next


def test_where_nothing_can_be_said_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 0)  # a system that does not tell
    fits.check(VIT, Batch(1, 1, 4096))

    class Looks(torch.nn.Module):
        def forward(self, pixels):
            return pixels if pixels.sum().item() > 0 else -pixels

    monkeypatch.setattr(memory, "available_bytes", lambda: 1)
    fits.check(replace(VIT, build=lambda spec: Looks()), Batch(1, 1, 4))


@pytest.mark.parametrize("name", ["swin_l_384", "igpt_s", "lr_net_50"])
def test_the_largest_recipes_into_16_gb_at_their_own_size(name, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 16 * 10**9)
    recipe = registry.recipe(name)
    fits.check(recipe, recipe.batch)
