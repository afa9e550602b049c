"""``MODEL=timm:swin_base_patch4_window12_384``: any classifier of timm, by its name, with or without a tag.

Preprocessing, classes and the hub's repository are those of timm's pretrained configuration.
"""

from __future__ import annotations

from functools import partial

from exporter.sources import _common as common
from exporter.types import ModuleSpec, Preprocessing, Recipe, TensorSpec
from recipes._timm import adapt

PREFIX = "timm"
FAMILIES = {"vision_transformer": "vit", "deit": "vit", "swin_transformer": "swin", "swin_transformer_v2": "swin_v2",
            "mlp_mixer": "mixer"}  # fmt: skip
"""Our family of each of timm's files; a model of another one is generic."""

RESIZABLE = {"vit", "swin", "swin_v2"}


def recipe(name: str) -> Recipe:
    """The recipe of timm's model ``name``; :class:`UsageError` where there is none, or it is no image classifier."""
    import timm

    arch = name.partition(".")[0]
    known = timm.list_models()
    if arch not in known:
        raise common.unknown("timm", name, known, PREFIX)
    try:
        said = timm.get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag
        raise common.unknown("timm", name, timm.list_pretrained(f"{arch}.*") or [arch], PREFIX) from None
    family = FAMILIES.get(timm.models.model_entrypoint(arch).__module__.rpartition(".")[2])
    size = tuple(said.input_size[1:])
    model = f"{PREFIX}:{name}"
    if said.input_size[0] != 3 or not said.num_classes:
        why = f"{said.input_size[0]} channels, {said.num_classes} classes"
        raise common.unusable(model, why, "a classifier of RGB images", "another model of timm")
    resizable = family in RESIZABLE
    with common.sketch():
        module = _module(ModuleSpec(size, said.num_classes), arch, resizable)
    heads = said.classifier if isinstance(said.classifier, tuple) else (said.classifier,)
    return Recipe(
        name=model,
        paper=f"timm's {arch}",
        origin=f"{said}",
        build=partial(build, name=arch, resizable=resizable),
        adapt=adapt,
        hub=said.hf_hub_id,
        classes=said.num_classes,
        head=tuple(f"{head}.weight" for head in heads if head),
        preprocessing=Preprocessing(
            size,
            tuple(said.mean),
            tuple(said.std),
            interpolation=said.interpolation,
            crop_pct=said.crop_pct,
            mode="squash" if said.crop_mode == "squash" else "crop",
        ),
        outputs=(TensorSpec("logits", common.CLASSES),),
        published=(common.millions(module), 0.0),
        image_multiple=_multiple(module, family),
        fixed_image=not resizable,
        **common.contract(module, family),
    )


def build(spec: ModuleSpec, name: str, resizable: bool):
    """timm's module in eval mode, with random weights."""
    return _module(spec, name, resizable).eval()


def _module(spec: ModuleSpec, name: str, resizable: bool):
    import timm

    options = {"img_size": spec.image} if resizable else {}
    return timm.create_model(name, pretrained=False, num_classes=spec.classes, **options)


def _multiple(module, family: str | None) -> int:
    if family in ("swin", "swin_v2"):
        return 32
    patch = getattr(getattr(module, "patch_embed", None), "patch_size", (1, 1))
    return int(patch[0])
