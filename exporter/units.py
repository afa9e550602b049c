"""The torch module's own parts as a measure: what each one answers, and what it would answer to another's input.

A unit is a module of the network that ran once (``layers.2.blocks.5.attn``). In a *forced* run every unit that the
graph under examination has a tensor for hands on the graph's value instead of its own, after its own was compared
with it. What a unit makes of the graph's input and what the graph made of it then differ by what happened inside of
this unit alone: the error it inherits is in both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np


@dataclass
class Answer:
    """What a unit answered, and whether it was asked with other units' answers, as they were, alone."""

    value: np.ndarray
    direct: bool


class Units:
    """The units of a torch module in eval mode, by name, in the order in which they finish."""

    def __init__(self, module):
        self.module = module
        self.modules = {name: part for name, part in module.named_modules() if name}

    def answers(self, pixels: np.ndarray) -> dict[str, Answer]:
        """What every unit answers to ``pixels`` (B, 3, H, W). Units that ran more than once, that hand on what they
        were given or what a part of theirs answered, or that answer no float tensor with the batch (and perhaps
        windows) on its first axis are no units."""
        import torch

        calls: Counter = Counter()
        found: dict[str, Answer] = {}
        made: dict[int, object] = {}  # the tensors themselves: an id is an object's only while it lives

        def see(name, inputs, value):
            calls[name] += 1
            tensor = _tensor(value)
            given = [x for x in inputs if isinstance(x, torch.Tensor)]
            if tensor is None or not tensor.is_floating_point() or tensor.ndim < 2 or len(tensor) % len(pixels):
                return
            if any(tensor is x for x in given) or id(tensor) in made:
                return
            direct = bool(given) and all(id(x) in made for x in given)
            found[name] = Answer(tensor.clone().numpy(), direct)  # a later unit may write into the tensor
            made[id(tensor)] = tensor

        images = torch.from_numpy(pixels)
        made[id(images)] = images
        self._run(images, see)
        return {name: answer for name, answer in found.items() if calls[name] == 1}

    def forced(self, pixels: np.ndarray, values: Mapping[str, np.ndarray], judge: Callable) -> None:
        """Run with ``values`` handed on by the units that they are of; ``judge(name, own answer, value)`` for each."""
        import torch

        def see(name, inputs, value):
            if name not in values:
                return None
            judge(name, _tensor(value).numpy(), values[name])
            other = torch.from_numpy(np.ascontiguousarray(values[name], dtype=np.float32))
            return (other, *value[1:]) if isinstance(value, tuple) else other

        self._run(torch.from_numpy(pixels), see)

    def _run(self, images, see: Callable) -> None:
        import torch

        with self._hooked(see), torch.no_grad():
            self.module(images)

    @contextmanager
    def _hooked(self, see: Callable):
        def hook(name):
            return lambda part, inputs, named, value: see(name, (*inputs, *named.values()), value)

        handles = [part.register_forward_hook(hook(n), with_kwargs=True) for n, part in self.modules.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _tensor(value):
    """The tensor that a module answers: itself, or the first of a tuple."""
    import torch

    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, torch.Tensor) else None
