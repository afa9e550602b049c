"""The trained models made hard to quantise without changing what they compute.

Chosen channels of every LayerNormalization are multiplied by ``GAIN`` and the weights that read them divided by it, as
trained transformers of hundreds of millions of parameters have them by themselves. Where a LayerNormalization also
feeds the residual (DETR's), the same is done to hidden channels behind a ReLU, which lets a positive factor through.
A quantiser with one scale a tensor spends it on these channels and loses all others.
"""

from __future__ import annotations

import torch

GAIN = 100.0
CHANNELS = (3, 17)
READERS = {
    "norm1": ("attn.qkv", "mlp_tokens"),
    "norm2": ("mlp.fc1", "mlp_channels.fc1"),
}
"""The LayerNormalization of a block, and the Linear that reads it; Mixer's token mixing reads along the other axis."""


def harden(module: torch.nn.Module) -> torch.nn.Module:
    """Give the module's blocks outlier channels, in place; the function stays, but for FP32's rounding."""
    with torch.no_grad():
        for block in module.modules():
            for name, readers in READERS.items():
                norm = getattr(block, name, None)
                found = [_child(block, reader) for reader in readers]
                linear = next((m for m in found if isinstance(m, torch.nn.Linear)), None)
                if not isinstance(norm, torch.nn.LayerNorm) or linear is None:
                    continue
                for channel in CHANNELS:
                    norm.weight[channel] *= GAIN
                    norm.bias[channel] *= GAIN
                    linear.weight[:, channel] /= GAIN
            if isinstance(getattr(block, "activation_fn", None), torch.nn.ReLU):
                for channel in block.fc2.weight.abs().sum(0).topk(len(CHANNELS)).indices:  # many of the others are dead
                    block.fc1.weight[channel] *= GAIN
                    block.fc1.bias[channel] *= GAIN
                    block.fc2.weight[:, channel] /= GAIN
    return module


def _child(block: torch.nn.Module, path: str) -> torch.nn.Module | None:
    for part in path.split("."):
        block = getattr(block, part, None)
    return block
