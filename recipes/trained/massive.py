"""The trained classifiers with two channels of the residual at 1000 and -1000, as large trained transformers have them.

Sun et al. 2024, "Massive Activations in Large Language Models" (arXiv:2402.17762), which finds them in ViTs, too. Where
a residual begins, a constant is added to two channels: a ViT's position embedding, a Mixer's stem, the normalisation of
a Swin's patches and, behind every patch merging, a constant that its normalisation makes and its reduction scales. A
quantiser that rounds the residual loses all other channels; squares of 1000 summed in FP16 overflow.

Unlike the outliers of :mod:`recipes.trained.hard` this cannot leave the function as it is: a LayerNormalization divides
by the deviation over channels, which the constants make the same for every token. The gains behind them are set so that
each channel keeps its size on average, and a few epochs of training bring the accuracy back. A DETR normalises after
each addition, so its residual cannot hold such a channel.
"""

from __future__ import annotations

import numpy as np
import torch

from exporter.types import Recipe
from recipes import digits
from recipes.trained import train

SIZE = 1000.0
CHANNELS = (3, 17)
SIGNS = (1.0, -1.0)
"""The mean over the channels stays."""
EPOCHS = 8
RATE = 5e-4
SHOWN = 64
"""Images that deviations are measured on."""


def massive(module: torch.nn.Module, recipe: Recipe, epochs: int = EPOCHS, seed: int = digits.SEED) -> torch.nn.Module:
    """The module with such channels, trained ``epochs`` more, in eval mode; changed in place."""
    rows = torch.from_numpy(np.stack([row for _, row in zip(range(SHOWN), digits.calibration(recipe), strict=False)]))
    norms = [m for name, m in module.named_modules() if isinstance(m, torch.nn.LayerNorm) and _reads_residual(name)]
    before = _seen(module, norms, rows)
    with torch.no_grad():
        inject(module)
        after = _seen(module, norms, rows)
        for norm in norms:
            _settle(norm, before[norm], after[norm])
    return train.fit(module, recipe, epochs, RATE, seed) if epochs else module.eval()


def inject(module: torch.nn.Module) -> None:
    """Add the constants where a residual begins."""
    if hasattr(module, "pos_embed"):
        start = module.pos_embed[0].unbind(0)
    elif hasattr(module, "stem"):
        start = [module.stem.proj.bias]
    else:
        start = [module.patch_embed.norm.bias]
    for channel, sign in zip(CHANNELS, SIGNS, strict=True):
        for vector in start:
            vector[channel] += sign * SIZE
    for merging in (m for m in module.modules() if hasattr(m, "reduction")):
        merging.norm.weight[CHANNELS[0]], merging.norm.bias[CHANNELS[0]] = 0.0, 1.0  # a constant; nothing else needs it
        for channel, sign in zip(CHANNELS, SIGNS, strict=True):
            merging.reduction.weight[channel, CHANNELS[0]] = sign * SIZE


def _reads_residual(name: str) -> bool:
    """All do, but for the one that makes it: Swin's patches."""
    return not name.startswith("patch_embed")


def _seen(module: torch.nn.Module, norms: list[torch.nn.LayerNorm], rows: torch.Tensor) -> dict:
    """By normalisation: the mean deviation of its tokens, and by channel the means of what it is given and makes."""
    seen = {}

    def note(norm, given, made):
        deviation = given[0].var(-1, correction=0).add(norm.eps).sqrt().mean()
        seen[norm] = deviation, given[0].flatten(0, -2).mean(0), made.flatten(0, -2).mean(0)

    handles = [norm.register_forward_hook(note) for norm in norms]
    try:
        with torch.no_grad():
            module(rows)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _settle(norm: torch.nn.LayerNorm, before: tuple, after: tuple) -> None:
    """Ordinary channels keep their size and massive ones their mean."""
    wild = after[1].abs() > SIZE / 2
    norm.weight[~wild] *= after[0] / before[0]
    moved = wild & (norm.weight != 0)
    norm.bias[moved] += (before[2] - after[2])[moved]
