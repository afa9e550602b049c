"""What the stages of one build share: the request, the cache, and what was found out on the way."""

from __future__ import annotations

import functools
import threading
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
    """One run of the pipeline. ``entries`` holds the finished stages by name.

    Two threads work on it: one builds, one proves. What they share is made once, whoever asks first.
    """

    request: Request
    store: Store
    entries: dict[str, Entry] = field(default_factory=dict)
    resampled: list[str] = field(default_factory=list)
    """Tensors of the checkpoint that were trained at another image or window size."""
    _line: threading.local = field(default_factory=threading.local)
    _making: threading.RLock = field(default_factory=threading.RLock)

    def note(self, text: str) -> None:
        """Show what this thread's stage is doing."""
        getattr(self._line, "show", lambda text: None)(text)

    def show_on(self, show: Callable[[str], None]) -> None:
        """Where this thread's notes go from now on."""
        self._line.show = show

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
        """The torch module with its weights; the stages that run it share one. What cannot fit is refused before."""
        from exporter import fits, weights

        self.note("counting memory")
        fits.check(self.recipe, self.request.batch)
        self.note("building the torch module")
        return weights.module(self.recipe, self.weights, self.spec, self._resampled)

    def _resampled(self, what: str) -> None:
        """Note a tensor of the checkpoint that was trained at another image or window size."""
        if what not in self.resampled:
            self.resampled.append(what)
            height, width = self.recipe.preprocessing.size
            self.store.warn(f"{what}: the checkpoint was trained at another size than {height}x{width}; IMAGE= sets it")

    @functools.cached_property
    def images(self) -> list[Path]:
        """The photographs that parity runs on."""
        from exporter import samples

        return samples.paths(self.request.images, self.recipe)

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
        with self._making:
            if name not in memory:
                memory[name] = onnxio.load(self.file(stage, name))
            return memory[name]
