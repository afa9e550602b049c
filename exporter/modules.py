"""What a torch module may do wrong: not be built, raise, answer something else than its recipe says."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from exporter.errors import ExporterError, UsageError
from exporter.types import ModuleSpec, Recipe

if TYPE_CHECKING:
    import torch

LIBRARIES = ("site-packages", "/exporter/", "/lib/python")
"""What a frame of a traceback has in its path that is not the user's."""


def built(recipe: Recipe, spec: ModuleSpec) -> torch.nn.Module:
    """The recipe's module; :class:`UsageError` with the line where its ``build`` raises or returns no module."""
    import torch

    try:
        module = recipe.build(spec)
    except ExporterError:
        raise
    except Exception as error:
        raise _wrong(recipe, "build", "the module cannot be built", error) from error
    if not isinstance(module, torch.nn.Module):
        raise UsageError(
            "build returns no module",
            model=recipe.name,
            stage="build",
            found=type(module).__name__,
            expected="a torch.nn.Module",
            next="return the module from the recipe's build(spec)",
        )
    return module.eval()


def answers(module: torch.nn.Module, recipe: Recipe, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The module's outputs in the recipe's order, one tensor each with a row for each image.

    :class:`UsageError` where the module raises, or answers other than that.
    """
    try:
        found = module(*inputs)
    except Exception as error:
        raise _wrong(recipe, "reference", "the module fails on an image", error) from error
    values = list(found) if isinstance(found, (tuple, list)) else [found]
    names = [spec.name for spec in recipe.outputs]
    if why := _unlike(found, values, names, len(inputs[0])):
        raise UsageError(
            "the module does not answer what its recipe says",
            model=recipe.name,
            stage="reference",
            found=why,
            expected=f"{', '.join(names)}: a floating-point tensor each, a row for each image",
            next="wrap the module in one whose forward returns such tensors, and name them in the recipe's outputs",
        )
    return values


def _unlike(found, values: list, names: list[str], images: int) -> str:
    """What is wrong with a module's answer, or ''."""
    import torch

    if isinstance(found, dict) or not all(isinstance(v, torch.Tensor) for v in values):
        inner = f" of {', '.join(map(str, list(found)[:4]))}" if isinstance(found, dict) else ""
        kinds = {type(v).__name__ for v in values} - {"Tensor"}
        return f"a {type(found).__name__}{inner}" if isinstance(found, dict) else f"a {' and a '.join(sorted(kinds))}"
    if len(values) != len(names):
        return f"{len(values)} tensors"
    for name, value in zip(names, values, strict=True):
        if not value.is_floating_point():
            return f"{name} of {value.dtype}".replace("torch.", "")
        if not value.ndim or len(value) != images:
            return f"{name} of the shape {tuple(value.shape)} for {images} images"
    return ""


def _wrong(recipe: Recipe, stage: str, what: str, error: Exception) -> UsageError:
    size = "x".join(map(str, recipe.preprocessing.size))
    return UsageError(
        what,
        model=recipe.name,
        stage=stage,
        found=f"{type(error).__name__}: {first(error)}{line(error)}",
        expected=f"a module that takes ({', '.join(s.name for s in recipe.inputs)}) at {size} pixels",
        next="run the module in Python on a tensor of that size",
    )


def first(error: BaseException) -> str:
    """The first line of an error's text."""
    return next(iter(str(error).strip().splitlines()), "no reason given")


def line(error: BaseException) -> str:
    """`` (file.py line 12: ...)``: the innermost place in the user's own code, from the traceback or from what torch
    quotes of it; '' where there is none."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not any(part in f.filename for part in LIBRARIES)]
    if frames:
        return f" ({frames[-1].filename} line {frames[-1].lineno}: {frames[-1].line})"
    quoted = re.findall(r'File "([^"]+)", line (\d+), in', str(error))
    own = [(file, number) for file, number in quoted if not any(part in file for part in LIBRARIES)]
    return f" ({own[-1][0]} line {own[-1][1]})" if own else ""
