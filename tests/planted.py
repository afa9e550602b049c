"""Small models of four families, the faults that are planted into their graphs, and whom blame must name."""

import contextlib
from dataclasses import dataclass

import faults
import models
import numpy as np
import onnx
import torch

from exporter import blame, casting, choice, registry, rewriting, trace, weights
from exporter.types import ModuleSpec, Recipe

RECIPES = {"vit": models.VIT, "swin": models.SWIN, "mixer": models.MIXER, "detr": models.DETR}


@dataclass(frozen=True)
class Subject:
    """A small model, by its family, with weights of a seed."""

    family: str
    recipe: Recipe
    module: torch.nn.Module

    def exported(self) -> onnx.ModelProto:
        return trace.export(self.module, self.recipe)

    def guilty(self, model: onnx.ModelProto, images: np.ndarray | None = None) -> dict | None:
        """The first verdict on a file's rungs."""
        return self.judged(model, images)[0]

    def judged(self, model: onnx.ModelProto, images: np.ndarray | None = None) -> tuple[dict | None, bool]:
        """(the first verdict on a file's rungs, whether the outputs of all up to it are within the tolerance)."""
        images, within = pixels(self.recipe) if images is None else images, True
        for rung in blame.foreign(model, "candidate", self.recipe):
            report, _, found = blame.judge(rung, self.module, self.recipe, images)
            within = within and report["status"] == "passed"
            if found is not None:
                return found, within
        return None, within


def subject(family: str, seed: int = 0) -> Subject:
    recipe = RECIPES[family]
    torch.manual_seed(seed)
    module = recipe.build(ModuleSpec(recipe.preprocessing.size, recipe.classes))
    weights.shake(module, seed)
    return Subject(family, recipe, module)


def copy(model: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def pixels(recipe: Recipe, seed: int = 0, count: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *recipe.inputs[0].shape), dtype=np.float32)


def canonical(recipe: Recipe, model: onnx.ModelProto, form: str = "windows") -> onnx.ModelProto:
    model, _ = rewriting.rewrite(model, recipe)
    return rewriting.rewrite(model, recipe, steps=choice.Choice(form, "").steps())[0]


def typed(model: onnx.ModelProto, precision: str = "fp16") -> onnx.ModelProto:
    return casting.cast(copy(model), registry.precision(precision)).model


@dataclass(frozen=True)
class Fault:
    """``plant`` edits the graph at module path ``at``; blame names a unit that begins with ``unit``."""

    family: str
    at: str
    plant: object
    unit: str
    form: str | None = None
    """The form of attention that the graph is rewritten into before; None: as exported."""

    def __str__(self) -> str:
        what = getattr(self.plant, "__name__", "fault")
        return f"{self.family}-{what}-{self.at}{f'-{self.form}' if self.form else ''}"

    def named(self, found: dict | None) -> bool:
        """Whether a verdict names this fault."""
        return found is not None and found["unit"].startswith(self.unit) and self.at.startswith(found["block"])


def _same(family: str, at: str, plant, form: str | None = None) -> Fault:
    return Fault(family, at, plant, at, form)


FAULTS = (
    _same("vit", "blocks.1.mlp.fc1", faults.scale),
    Fault("vit", "blocks.0.attn.proj", faults.swap_heads(64), "blocks.0.attn"),
    _same("vit", "blocks.1.attn", faults.baked_batch(2)),
    _same("vit", "blocks.1.mlp.fc1", faults.scale, "windows"),  # from here on the class token alone
    _same("vit", "blocks.1.mlp.fc2", faults.scale, "positions_packed"),
    _same("vit", "head", faults.scale, "windows"),
    _same("vit", "head", faults.scale, "positions_packed"),
    _same("swin", "layers.0.blocks.1.mlp.fc2", faults.scale),
    Fault("swin", "layers.1.downsample.reduction", faults.scale, "layers.1.downsample"),
    Fault("swin", "layers.1.blocks.0.attn.proj", faults.swap_heads(16), "layers.1.blocks.0.attn"),
    _same("swin", "layers.1.blocks.1.attn", faults.baked_batch(2)),
    _same("swin", "layers.0.blocks.1.attn", faults.wrong_mask),
    _same("swin", "layers.1.blocks.1.attn", faults.transposed_bias, "windows"),
    _same("swin", "layers.1.blocks.1.attn", faults.transposed_bias, "positions_packed"),
    Fault("mixer", "blocks.1.mlp_tokens.fc1", faults.scale, "blocks.1"),
    _same("mixer", "blocks.0.mlp_channels.fc2", faults.scale),
    _same("mixer", "stem.proj", faults.scale),
    _same("mixer", "stem", faults.baked_batch(2)),
    _same("detr", "model.encoder.layers.1.mlp.fc1", faults.scale),
    Fault("detr", "model.decoder.layers.0.encoder_attn.o_proj", faults.swap_heads(16),
          "model.decoder.layers.0.encoder_attn"),
    _same("detr", "model.encoder.layers.1.self_attn", faults.baked_batch(2)),
    _same("detr", "model.backbone.model.layer3.0.conv1", faults.scale),
    Fault("detr", "bbox_predictor.layers.1", faults.scale, "bbox_predictor"),
)  # fmt: skip

THOUSANDS = {
    "vit": ("pos_embed", "blocks.0.norm1"),
    "swin": ("patch_embed.norm.bias", "layers.0.blocks.0.norm1"),
    "mixer": ("stem.proj.bias", "blocks.0.norm1"),
    "detr": ("model.input_projection.bias", "model.encoder.layers.0.self_attn_layer_norm"),
}
"""The parameter that makes one channel 1000, and the LayerNorm that reads it."""

CHANNELS = {
    "vit": ("blocks.1.mlp.fc2", "blocks.1"),
    "swin": ("layers.1.blocks.0.mlp.fc2", "layers.1.blocks.0"),
    "mixer": ("blocks.0.mlp_channels.fc2", "blocks.0"),
    "detr": ("model.encoder.layers.1.mlp.fc2", "model.encoder.layers.1"),
}
"""The Linear one of whose channels becomes 10^5, and its block."""


@contextlib.contextmanager
def _changed(parameter: torch.nn.Parameter, values: torch.Tensor):
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.copy_(values)
        yield
        parameter.copy_(before)


@contextlib.contextmanager
def a_thousand(of: Subject):
    """One channel of the stream is 1000 at the LayerNorm of ``THOUSANDS``."""
    parameter = of.module.get_parameter(THOUSANDS[of.family][0])
    values = parameter.detach().clone()
    values[..., 0] = 1000.0
    with _changed(parameter, values):
        yield


@contextlib.contextmanager
def huge_channel(of: Subject, images: np.ndarray | None = None):
    """Channel 3 of the Linear of ``CHANNELS`` reaches 10^5 on these images, by a sum in which little cancels."""
    linear = of.module.get_submodule(CHANNELS[of.family][0])
    values, largest = linear.weight.detach().clone(), []
    values[3] = values[3].abs()
    hook = linear.register_forward_hook(
        lambda module, given, answer: largest.append((given[0] @ values[3]).abs().max())
    )
    with torch.no_grad():
        of.module(torch.from_numpy(pixels(of.recipe) if images is None else images))
    hook.remove()
    values[3] *= 1e5 / largest[0]
    with _changed(linear.weight, values):
        yield
