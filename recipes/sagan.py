"""SAGAN's discriminator at 128x128: a residual network with one block of self-attention (Zhang 2019).

It answers the score that its training asks of one class at a time, of all classes at once. Nobody keeps the module, it
is :mod:`recipes.modules.sagan`; ``published`` is counted from the paper's architecture. Spectral norms are divisions
by constants and fold.

Queries and values are convolutions, of 16 and 64 channels: the rewrites leave the attention as it is, and TensorRT-RTX
1.7 makes it two products and a ``__myl_`` softmax.
"""

from __future__ import annotations

from exporter.types import ModuleSpec, Preprocessing, Recipe, TensorSpec, canonical


def build(spec: ModuleSpec):
    """The discriminator in eval mode with random weights, for images of multiples of 32 pixels."""
    from recipes.modules.sagan import Discriminator

    return Discriminator(spec.classes).eval()


RECIPES = (
    Recipe(
        name="sagan_d",
        family="sagan",
        paper="Zhang et al. 2019, arXiv:1805.08318",
        build=build,
        preprocessing=Preprocessing((128, 128), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        outputs=(TensorSpec("scores", "how real the image looks as one of each class"),),
        published=(39.5, 4.7),
        image_multiple=32,
        head=("embedding.parametrizations.weight.original",),
        attention_blocks=1,
        rewrites=canonical(fold_constants=59),
    ),
)
