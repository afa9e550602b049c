"""Recipes small enough to build in seconds; their blocks are those of the real ones."""

from dataclasses import replace

from exporter.registry import recipe
from exporter.types import Batch, canonical


def _vit(spec):
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=spec.image, patch_size=16, embed_dim=128, depth=2, num_heads=2, num_classes=spec.classes
    ).eval()


def _swin(spec):
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(
        img_size=spec.image, embed_dim=64, depths=(2, 2), num_heads=(2, 4), window_size=7, num_classes=spec.classes
    ).eval()


def _mixer(spec):
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(img_size=spec.image, patch_size=16, num_blocks=2, embed_dim=64, num_classes=spec.classes).eval()


def _detr(spec):
    from transformers import DetrConfig

    from recipes.detr import configured

    backbone = DetrConfig().backbone_config
    backbone.backbone = "resnet18"
    sizes = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in SIZES.items()}
    return configured(
        DetrConfig(num_labels=spec.classes, backbone_config=backbone, d_model=64, num_queries=10, **sizes)
    )


SIZES = {"layers": 2, "attention_heads": 4, "ffn_dim": 128}


def _tiny(like: str, name: str, build, size: int, attention_blocks: int, rewrites):
    base = recipe(like)
    return replace(
        base.at((size, size)),
        name=name,
        build=build,
        hub=None,
        classes=10,
        batch=Batch(1, 2, 5),
        attention_blocks=attention_blocks,
        fused_attention={"fp16": attention_blocks, "bf16": attention_blocks},
        unbiased=None if base.unbiased is None else attention_blocks,
        rewrites=rewrites,
    )


VIT = _tiny("vit_ti", "tiny_vit", _vit, 64, 2, canonical(static_shapes=17, attention_form=2))
MIXER = _tiny("mixer_s", "tiny_mixer", _mixer, 64, 0, canonical(token_mixing=2))
DETR = _tiny("detr_r50", "tiny_detr", _detr, 128, 6, canonical())
SWIN = _tiny("swin_t", "tiny_swin", _swin, 112, 4, canonical())
