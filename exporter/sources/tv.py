"""``MODEL=tv:swin_v2_t``: any image classifier of torchvision, with its default weights.

Preprocessing and classes are those of torchvision's ``Weights``; the file comes from its address through torch's hub.
"""

from __future__ import annotations

from functools import partial

from exporter.sources import _common as common
from exporter.types import ModuleSpec, Preprocessing, Recipe, TensorSpec

PREFIX = "tv"
FAMILIES = {"vision_transformer": "vit", "swin_transformer": "swin"}
CLASSES = 1000


def recipe(name: str) -> Recipe:
    """The recipe of torchvision's model ``name``; :class:`UsageError` where there is none of images to classes."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise common.unknown("torchvision", name, known, PREFIX)
    maker = models.get_model_builder(name)
    default = models.get_model_weights(name).DEFAULT
    how = default.transforms()
    size = (how.crop_size[0], how.crop_size[0])
    family = FAMILIES.get(maker.__module__.rpartition(".")[2])
    if family == "swin" and name.startswith("swin_v2"):
        family = "swin_v2"
    sized = family == "vit"
    with common.sketch():
        module = _module(ModuleSpec(size, CLASSES), name, sized)
    return Recipe(
        name=f"{PREFIX}:{name}",
        paper=f"torchvision's {name}",
        origin=f"{default} {default.url}",
        build=partial(build, name=name, sized=sized),
        url=default.url,
        classes=CLASSES,
        head=_head(module),
        preprocessing=Preprocessing(
            size,
            tuple(how.mean),
            tuple(how.std),
            interpolation=how.interpolation.value,
            crop_pct=min(1.0, size[0] / how.resize_size[0]),
        ),
        outputs=(TensorSpec("logits", common.CLASSES),),
        published=(common.millions(module), round(default.meta.get("_ops", 0.0), 1)),
        image_multiple=32 if family in ("swin", "swin_v2") else getattr(module, "patch_size", 1),
        fixed_image=family is None,
        **common.contract(module, family),
    )


def build(spec: ModuleSpec, name: str, sized: bool):
    """torchvision's module in eval mode, with random weights."""
    return _module(spec, name, sized).eval()


def _module(spec: ModuleSpec, name: str, sized: bool):
    from torchvision import models

    options = {"image_size": spec.image[0]} if sized else {}
    return models.get_model(name, weights=None, num_classes=spec.classes, **options)


def _head(module) -> tuple[str, ...]:
    """The last weight with a row for each class."""
    rows = [name for name, p in module.named_parameters() if name.endswith("weight") and p.shape[0] == CLASSES]
    return (rows[-1],) if rows else ()
