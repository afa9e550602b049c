"""DETR: a ResNet-50, an encoder and a decoder with 100 object queries; no anchors, no NMS (Carion 2020).

The module is transformers' ``DetrForObjectDetection`` with timm's ResNet-50 and frozen batch norms. Images are
squashed to a fixed square and never padded, so attention needs no pixel mask: transformers' own, of ones, is left out.
"""

from __future__ import annotations

import re

from exporter.types import Batch, ModuleSpec, Preprocessing, Recipe, TensorSpec, canonical

PAPER = "Carion et al. 2020, arXiv:2005.12872"

RENAMED = (  # transformers 5 renamed these; the published checkpoints have the old names
    (re.compile(r"backbone\.conv_encoder\."), "backbone."),
    (re.compile(r"\bout_proj\b"), "o_proj"),
    (re.compile(r"(layers\.\d+)\.(fc[12])\b"), r"\1.mlp.\2"),
)


def build(spec: ModuleSpec):
    """DETR-R50 for ``spec.classes`` classes with random weights; (pixels) -> (logits, boxes)."""
    from transformers import DetrConfig

    return configured(DetrConfig(num_labels=spec.classes))


def configured(config):
    """The DETR of a transformers config with random weights; (pixels) -> (logits, boxes)."""
    from transformers import DetrForObjectDetection

    class Detr(DetrForObjectDetection):
        """The same parameters under the same names, with tensors in and out."""

        def forward(self, pixels):
            found = super().forward(pixel_values=pixels, return_dict=True)
            return found.logits, found.pred_boxes

    module = Detr(config).eval()
    for name, part in module.named_modules():
        if name.endswith("_attn"):
            part.register_forward_pre_hook(_without_mask, with_kwargs=True)
    return module


def _without_mask(module, positional: tuple, named: dict) -> tuple[tuple, dict]:
    """A forward hook that takes the mask away from an attention."""
    return positional, named | {"attention_mask": None}


def adapt(state_dict: dict, module) -> dict:
    """Names of checkpoints written before transformers 5; counters of batch norms that DETR freezes are dropped."""
    renamed = {}
    for key, value in state_dict.items():
        if key.endswith("num_batches_tracked"):
            continue
        for pattern, replacement in RENAMED:
            key = pattern.sub(replacement, key)
        renamed[key] = value
    return renamed


HEADS = ("(model)", "class_labels_classifier", "bbox_predictor")
"""What is behind the decoder's last normalisation."""

EIGHT_BITS_OUT = (*HEADS, "model.decoder")
"""The decoder works on a hundred queries: little for 8 bits to win, and each rounding reaches the boxes. Of the DETR
for digits FP8 loses 1.84 points of AP50 with heads and decoder, 1.18 with the decoder alone and 0.19 with neither,
where it is 1.05 times as fast as FP16, by the kernels, and not 0.91."""

WIDE = {"bfloat16": HEADS, "int8": EIGHT_BITS_OUT, "float8_e4m3fn": EIGHT_BITS_OUT}

RECIPES = (
    Recipe(
        name="detr_r50",
        family="detr",
        paper=PAPER,
        build=build,
        adapt=adapt,
        hub="facebook/detr-resnet-50",
        task="detection",
        classes=91,
        preprocessing=Preprocessing(
            (800, 800), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), interpolation="bilinear", mode="squash"
        ),
        outputs=(
            TensorSpec("logits", "scores of each query's classes, the last one is no object"),
            TensorSpec("boxes", "centre x, centre y, width, height as shares of the image, per query"),
        ),
        published=(41.5, 58.7),  # at 800x800; the paper states 86 GFLOPs for COCO's larger images
        image_multiple=32,
        batch=Batch(1, 2, 8),
        head=("class_labels_classifier.weight",),
        head_extra=1,
        wide=WIDE,
        rewrites=canonical(
            static_shapes=184, fold_constants=2, fold_data_free=18, fold_batch_normalization=106, attention_form=18
        ),
        attention_blocks=18,
        fused_attention={"fp16": 18, "bf16": 18},
    ),
)
