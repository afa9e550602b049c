"""iGPT-S: a GPT over an image's 1024 pixels, each one of 512 colours; here as the classifier (Chen 2020).

The recipe takes pixels like every other one: the nearest of 512 colours, ``clusters`` in the module's state, is found
inside the graph, in FP32. The 24 causal attentions are canonical, their mask one constant of 1024 x 1024 for all.
OpenAI published the generative weights, without a classifier, so there is nothing to take from the hub.

Attention grows with the fourth power of the image's side: at 128 pixels one image's matrices are 206 GB.
"""

from __future__ import annotations

from functools import partial

from exporter.types import Batch, ModuleSpec, Preprocessing, Recipe, canonical
from recipes._shallow import shallow

COLOURS = 512


def build(spec: ModuleSpec, depth: int):
    """iGPT-S of ``depth`` layers for images of this size, in eval mode with random weights and random colours."""
    import torch
    from transformers import ImageGPTConfig, ImageGPTForImageClassification

    class Classifier(ImageGPTForImageClassification):
        """transformers' module under its own names, and the colours; (pixels) -> logits."""

        def __init__(self, config):
            super().__init__(config)
            self.register_buffer("clusters", torch.rand(COLOURS, 3) * 2 - 1)

        def forward(self, pixels):
            distances = pixels.flatten(2).mT[:, :, None] - self.clusters  # (B, H W, colours, 3)
            return super().forward(distances.square().sum(-1).argmin(-1), return_dict=True).logits

    places = spec.image[0] * spec.image[1]
    config = ImageGPTConfig(n_positions=places, n_layer=depth, num_labels=spec.classes, use_cache=False)
    return Classifier(config).eval()


@shallow(depth=2)
def _igpt(depth: int = 24) -> Recipe:
    return Recipe(
        name="igpt_s",
        family="igpt",
        paper="Chen et al. 2020, Generative Pretraining from Pixels",
        build=partial(build, depth=depth),
        preprocessing=Preprocessing((32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), interpolation="bilinear"),
        published=(76.3, 103.1),  # 1024 tokens of 12 x 512^2 weights a layer, and two products of 1024^2 x 512
        image_multiple=2,
        batch=Batch(1, 1, 4),
        head=("score.weight",),
        attention_blocks=depth,
        fused_attention={"fp16": depth, "bf16": depth},
        rewrites=canonical(attention_form=depth, fold_attention_biases=2 * depth),
    )


RECIPES = (_igpt(),)
