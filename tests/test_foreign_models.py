"""Small models of three libraries, exported and made canonical: as many matches whoever wrote the model."""

import logging
from dataclasses import replace

import pytest
import torch
from graphs import ops

from exporter import registry, rewriting, trace, weights
from exporter.types import canonical

SWIN = {"embed_dim": 48, "window_size": 7}


def timm_swin(size):
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(img_size=size, depths=(2, 2), num_heads=(3, 6), num_classes=10, **SWIN)


def timm_swin_v2(size):
    from timm.models.swin_transformer_v2 import SwinTransformerV2

    return SwinTransformerV2(img_size=size, depths=(2,), num_heads=(3,), num_classes=10, **SWIN)


def torchvision_swin(size):
    from torchvision.models import SwinTransformer

    return SwinTransformer([4, 4], 48, depths=[2, 2], num_heads=[3, 6], window_size=[7, 7], num_classes=10)


def torchvision_vit(size):
    from torchvision.models import VisionTransformer

    return VisionTransformer(size[0], 16, num_layers=2, num_heads=3, hidden_dim=96, mlp_dim=192, num_classes=10)


def transformers_swin(size):
    from transformers import SwinConfig, SwinForImageClassification

    config = SwinConfig(image_size=size, depths=[2, 2], num_heads=[3, 6], num_labels=10, **SWIN)
    return of_pixels(SwinForImageClassification)(config)


def transformers_vit(size, implementation="sdpa"):
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=size,
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=192,
        num_labels=10,
    )
    config._attn_implementation = implementation
    return of_pixels(ViTForImageClassification)(config)


def transformers_vit_eager(size):
    return transformers_vit(size, "eager")


def of_pixels(base):
    class Classifier(base):
        def forward(self, pixels):
            return super().forward(pixel_values=pixels).logits

    return Classifier


SWIN_DUE = {"patch_embedding": 1, "attention_form": 4, "fold_attention_biases": 8, "cancel_permutations": 9}
VIT_DUE = {"patch_embedding": 1, "attention_form": 2, "fold_attention_biases": 4, "early_selection": 8}
V2_DUE = {"remove_expansions": 4, "attention_form": 2, "fold_attention_biases": 4, "cancel_permutations": 4}
MODELS = {
    "timm Swin": (timm_swin, (112, 224), SWIN_DUE),
    "timm Swin V2": (timm_swin_v2, (56, 84), V2_DUE),
    "torchvision Swin": (torchvision_swin, (224, 224), SWIN_DUE),
    "torchvision ViT": (torchvision_vit, (64, 64), VIT_DUE | {"cancel_permutations": 4}),
    "transformers Swin": (transformers_swin, (112, 168), SWIN_DUE),
    "transformers ViT": (transformers_vit, (64, 96), VIT_DUE | {"remove_guards": 2, "fold_data_free": 2}),
    "transformers ViT, eager": (transformers_vit_eager, (64, 64), VIT_DUE),
}


GATHERS = {"timm Swin": 4, "timm Swin V2": 2, "torchvision Swin": 6, "transformers Swin": 6}


@pytest.mark.parametrize("name", MODELS)
def test_the_matches_are_those_of_the_architecture(name):
    """The rewriting itself compares the outputs with those before, after each rewrite, at two batches."""
    build, size, due = MODELS[name]
    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.manual_seed(0)
    module = build(size).eval()
    weights.shake(module)
    recipe = replace(registry.recipe("swin_t").at(size), name=name, rewrites=canonical(**due))
    after, reports = rewriting.rewrite(trace.export(module, recipe), recipe)
    assert {r.name: r.matches for r in reports if r.name in due} == due
    assert [r.refused for r in reports if r.name == "attention_form"] == [{}]
    found = ops(after)
    assert not {"Conv", "Where", "IsNaN", "Erf"} & set(found)
    if name in GATHERS:  # one permutation into each order, and two of the channels-first average of the others
        assert found.count("Gather") == GATHERS[name] and not {"Slice", "Concat"} & set(found)
