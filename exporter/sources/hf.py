"""``MODEL=hf:google/vit-base-patch16-224`` or ``MODEL=hf:folder``: classifiers and detectors of transformers.

Architecture, classes and preprocessing come from ``config.json`` and ``preprocessor_config.json``, the weights from
``model.safetensors`` beside them. Older key names are read as transformers itself reads them.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from urllib.parse import urlparse

from exporter import modules
from exporter.preprocessing import INTERPOLATIONS
from exporter.sources import _common as common
from exporter.types import Batch, ModuleSpec, Preprocessing, Recipe, TensorSpec
from exporter.weights import out_of_reach

PREFIX = "hf"
FAMILIES = {"vit": "vit", "deit": "vit", "dinov2": "vit", "swin": "swin", "swinv2": "swin_v2", "detr": "detr"}
DETECTORS = ("detr", "rt_detr", "rt_detr_v2", "d_fine", "yolos")
PICKING = ("rt_detr", "rt_detr_v2", "d_fine")
"""Detectors whose queries are the best tokens of the encoder."""

BOXES = "centre x, centre y, width, height as shares of the image, per query"


def recipe(name: str) -> Recipe:
    """The recipe of a model on the hub or in a folder; :class:`UsageError` for what is no classifier or detector."""
    from huggingface_hub.constants import ENDPOINT
    from transformers import AutoConfig

    model, folder = f"{PREFIX}:{name}", Path(os.path.expanduser(name))
    local = folder.is_dir()
    offline = local or bool(out_of_reach(urlparse(ENDPOINT)))
    try:
        config = AutoConfig.from_pretrained(str(folder) if local else name, local_files_only=offline)
    except (OSError, ValueError, KeyError) as error:
        hint = f"make engine MODEL={PREFIX}:<a folder with config.json and model.safetensors>"
        raise common.unusable(model, modules.first(error), "a config of transformers", hint) from None
    detects = config.model_type in DETECTORS
    family = FAMILIES.get(config.model_type)
    how = _preprocessing(config, str(folder) if local else name, model, offline)
    try:
        with common.sketch():
            module = _module(ModuleSpec(how.size, config.num_labels), config)
    except Exception as error:
        expected = "an image classifier or a detector of transformers"
        hint = "MODEL=path/to/my_recipe.py with a module of your own"
        raise common.unusable(model, f"{config.model_type}: {modules.first(error)}", expected, hint) from None
    outputs = (TensorSpec("logits", common.CLASSES),)
    if detects:
        outputs = (TensorSpec("logits", "scores of each query's classes"), TensorSpec("boxes", BOXES))
    extra = int(config.model_type in ("detr", "yolos"))
    return Recipe(
        name=model,
        paper=f"transformers' {type(module).__mro__[1].__name__}",
        origin=json.dumps(config.to_dict(), sort_keys=True, default=str),
        build=partial(build, config=config),
        adapt=adapt,
        hub=None if local else name,
        shipped=folder / "model.safetensors" if local else None,
        task="detection" if detects else "classification",
        classes=config.num_labels,
        labels=_labels(config),
        head=_heads(module, config.num_labels + extra),
        head_extra=extra,
        set_of_queries=config.model_type in PICKING,
        batch=Batch(1, 2, 8) if detects else Batch(1, 8, 32),
        preprocessing=how,
        outputs=outputs,
        published=(common.millions(module), 0.0),
        image_multiple=32 if detects or family in ("swin", "swin_v2") else getattr(config, "patch_size", 1),
        fixed_image=family is None,
        wide=common.kept_wide(module) if detects else {},
        **common.contract(module, family),
    )


def _labels(config) -> tuple[str, ...]:
    """The config's own names of its classes; none where they are those that transformers makes up."""
    names = tuple(str(config.id2label.get(i, "")) for i in range(config.num_labels))
    return () if any(name in ("", f"LABEL_{i}") for i, name in enumerate(names)) else names


def build(spec: ModuleSpec, config):
    """The module of a config for this image size and number of classes, in eval mode, with random weights."""
    return _module(spec, config).eval()


def _module(spec: ModuleSpec, config):
    import transformers

    config = type(config).from_dict(config.to_dict())
    if hasattr(config, "image_size"):
        config.image_size = spec.image[0] if spec.image[0] == spec.image[1] else list(spec.image)
    config.num_labels = spec.classes
    if config.model_type == "detr":
        from recipes.detr import configured

        return configured(config)
    detects = config.model_type in DETECTORS
    table = transformers.MODEL_FOR_OBJECT_DETECTION_MAPPING if detects else _classifiers()
    choice = table[type(config)]
    if isinstance(choice, tuple):  # DeiT's, with and without the teacher: the config says which
        choice = next((c for c in choice if c.__name__ in (config.architectures or ())), choice[0])
    return _of_pixels(choice, detects)(config)


def _classifiers():
    from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING

    return MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING


def _of_pixels(base, detects: bool):
    """The same module under the same names, tensors in and out."""

    def forward(self, pixels):
        found = base.forward(self, pixel_values=pixels, return_dict=True)
        return (found.logits, found.pred_boxes) if detects else found.logits

    sys.modules[base.__module__].len = _length
    return type(base.__name__, (base,), {"forward": forward})


def _length(values) -> int:
    """``len`` for transformers' modules: of a tensor a size that torch.export keeps free, as ``len`` itself cannot."""
    return values.shape[0] if hasattr(values, "shape") else len(values)


def _heads(module, rows: int) -> tuple[str, ...]:
    """Weights with a row for each class, the last one first."""
    found = [n for n, p in module.named_parameters() if n.endswith("weight") and p.ndim == 2 and p.shape[0] == rows]
    return tuple(reversed(found))[:1]


def adapt(state_dict: dict, module) -> dict:
    """Older names as ``from_pretrained`` reads them. What it finds missing or unexpected stays that, to be listed."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # the tool shows its own
    base = type(module).__mro__[1]
    made, said = base.from_pretrained(
        None, config=module.config, state_dict=dict(state_dict), output_loading_info=True, ignore_mismatched_sizes=True
    )
    found = made.state_dict()
    for name in said["missing_keys"]:
        found.pop(name, None)
    for name, size, _ in said.get("mismatched_keys", ()):
        found[name] = state_dict.get(name, found[name].new_zeros(size))
    return found | {name: state_dict[name] for name in said["unexpected_keys"] if name in state_dict}


def _preprocessing(config, where: str, model: str, offline: bool) -> Preprocessing:
    """``preprocessor_config.json`` as ours; ImageNet's mean and deviation at the config's size where there is none."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        said, _ = ImageProcessingMixin.get_image_processor_dict(where, local_files_only=offline)
    except (OSError, ValueError):
        said = {}
    size = said.get("size") or getattr(config, "image_size", None) or 224
    crop = said.get("crop_size") if said.get("do_center_crop") else None
    mean, std = (tuple(said.get(f"image_{key}", fallback)) for key, fallback in (("mean", MEAN), ("std", STD)))
    if config.model_type in DETECTORS:
        side = getattr(config, "image_size", None) or 800
        pair = _pair(said["size"]) if "height" in (said.get("size") or {}) else (side, side)
        return Preprocessing(pair, mean, std, interpolation="bilinear", mode="squash")
    names = {number: name for name, number in INTERPOLATIONS.items()}  # transformers writes Pillow's numbers
    interpolation = names.get(said.get("resample", 3))
    if interpolation is None:
        hint = "a preprocessor_config.json with another resample"
        raise common.unusable(model, f"resample {said['resample']}", f"one of {sorted(names)}", hint)
    if crop is not None:
        short = size.get("shortest_edge") or size.get("height") if isinstance(size, dict) else size
        pair = _pair(crop)
        return Preprocessing(pair, mean, std, interpolation=interpolation, crop_pct=min(1.0, pair[0] / short))
    if isinstance(size, dict) and "shortest_edge" in size:
        pair = (size["shortest_edge"],) * 2
        return Preprocessing(pair, mean, std, interpolation=interpolation, crop_pct=1.0)
    return Preprocessing(_pair(size), mean, std, interpolation=interpolation, mode="squash")


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _pair(size) -> tuple[int, int]:
    """(height, width) of what transformers writes: a number, a pair, a dict."""
    if isinstance(size, dict):
        return int(size["height"]), int(size["width"])
    return (int(size[0]), int(size[1])) if isinstance(size, (list, tuple)) else (int(size), int(size))
