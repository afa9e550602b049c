"""What the stages of one build share: the request, the cache, and what was found out on the way."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.store import Entry, Store
from exporter.types import ModuleSpec, Recipe, Request
from exporter.weights import Weights

if TYPE_CHECKING:
    import torch

    from exporter.samples import Samples


@dataclass
class Build:
    """One run of the pipeline. ``entries`` holds the finished stages by name; ``note`` shows what is going on."""

    request: Request
    store: Store
    note: Callable[[str], None] = lambda text: None
    entries: dict[str, Entry] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        return self.request.recipe

    @functools.cached_property
    def weights(self) -> Weights:
        """Which weights the request means now; looks at the hub or hashes the file once."""
        from exporter import weights

        return weights.locate(self.recipe, self.request.weights)

    @functools.cached_property
    def spec(self) -> ModuleSpec:
        """Image size and number of classes; known once the stage ``weights`` is done."""
        return ModuleSpec(self.recipe.preprocessing.size, self.entries["weights"].meta["classes"])

    @functools.cached_property
    def module(self) -> torch.nn.Module:
        """The torch module with its weights; the stages that run it share one."""
        from exporter import weights

        self.note("building the torch module")
        return weights.module(self.recipe, self.weights, self.spec)

    @functools.cached_property
    def images(self) -> list[Path]:
        """The photographs that parity runs on."""
        from exporter import samples

        return samples.paths(self.request.images)

    @functools.cached_property
    def samples(self) -> Samples:
        """The photographs and noise as the model's input, decoded once."""
        from exporter import samples

        return samples.load(self.recipe, self.images)

    def forget_module(self) -> None:
        """Free the torch module: nothing after the trace runs it."""
        self.__dict__.pop("module", None)

    def file(self, stage: str, name: str) -> Path:
        """The path of a file that a finished stage wrote."""
        return self.entries[stage].path(name)

    def model(self, stage: str, name: str) -> Any:
        """A finished stage's ONNX model, from memory where this process made it."""
        from exporter import onnxio

        memory = self.entries[stage].memory
        if name not in memory:
            memory[name] = onnxio.load(self.file(stage, name))
        return memory[name]
