"""What is measured: a bundle's graphs at one batch, and the contenders that run them or something in their place."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from exporter import contenders
from exporter.errors import UsageError, nearest
from exporter.types import ModuleSpec, Recipe

if TYPE_CHECKING:
    import numpy as np
    import onnx

OURS = "ours"
SEED = 0


@dataclass(frozen=True)
class Subject:
    """``raw`` and ``rewritten`` are the FP32 graphs of a model, ``typed`` that of one precision (None without it).

    ``folder`` takes what contenders write; ``threads`` is how many each may use.
    """

    recipe: Recipe
    classes: int
    weights: str
    raw: Path
    rewritten: Path
    typed: Path | None
    batch: int
    threads: int
    folder: Path
    device: str = "cpu"
    element_type: str = "float32"
    """In what torch computes: FP32 on the CPU, the precision's own 16 bits on a GPU."""

    @property
    def spec(self) -> ModuleSpec:
        return ModuleSpec(self.recipe.preprocessing.size, self.classes)

    def pixels(self) -> np.ndarray:
        """(batch, 3, H, W) float32 of seeded noise."""
        import numpy as np

        shape = (self.batch, *self.recipe.inputs[0].shape)
        return np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)

    def graph(self, path: Path) -> onnx.ModelProto:
        """The graph with its batch fixed: what every contender starts from."""
        from exporter import onnxio

        model = onnxio.load(path)
        onnxio.fix_batch(model, self.batch)
        return model


Run = Callable[[], list]


def names() -> list[str]:
    """Every contender, as it is typed."""
    return [_typed(m.name) for m in pkgutil.iter_modules(contenders.__path__) if not m.name.startswith("_")]


def _typed(module: str) -> str:
    """``torch_compile`` is typed ``torch.compile``, every other underscore a hyphen."""
    return "torch.compile" if module == "torch_compile" else module.replace("_", "-")


def contender(name: str) -> ModuleType:
    """The contender called ``name``; :class:`UsageError` for one that is not there or not installed."""
    if name not in names():
        raise UsageError(
            f"there is no contender {name!r}",
            found=name,
            expected=", ".join(n for n in names() if not n.startswith(OURS)),
            next=f"VS={nearest(name, names()).split(', ')[0]}",
        )
    module = importlib.import_module(f"{contenders.__name__}.{name.replace('-', '_').replace('.', '_')}")
    for package in module.PACKAGES:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            raise UsageError(
                f"{name} cannot run here",
                found=f"{package} is not installed",
                expected=", ".join(module.PACKAGES),
                next=".venv/bin/pip install -e '.[bench]'",
            ) from None
    return module


def versions(module: ModuleType) -> dict[str, str]:
    """The installed versions that a contender's figures are of."""
    return {package: importlib.metadata.version(package) for package in module.PACKAGES}
