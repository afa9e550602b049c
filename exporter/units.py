"""The torch module's own parts as a measure: what each one answers, and what it would answer to another's input.

A unit is a module of the network that ran once (``layers.2.blocks.5.attn``). In a *forced* run every unit that the
graph under examination has a tensor for hands on the graph's value instead of its own, after its own was compared
with it. What a unit makes of the graph's input and what the graph made of it then differ by what happened inside of
this unit alone: the error it inherits is in both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from contextlib import contextmanager

import numpy as np

INPUT = ":input"
"""Ends the name of what a unit is given where no other unit answered that: ``layers.0.blocks.1.norm2:input`` is the
residual sum before the norm, ``attn.proj:input`` what the attention makes of queries, keys and values."""


def owner(name: str) -> str:
    """The module whose own operators make a value: the unit itself, or the parent for what a unit is given."""
    unit = name.removesuffix(INPUT)
    return unit if unit == name else unit.rpartition(".")[0] or unit


class Units:
    """The units of a torch module in eval mode, by name, in the order in which they finish."""

    def __init__(self, module):
        self.module = module
        self.modules = {name: part for name, part in module.named_modules() if name}

    def affine(self, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """(scale, shift) by channel of a unit that normalises the last axis; None of any other."""
        import torch

        norm = self.modules.get(name)
        if not isinstance(norm, torch.nn.LayerNorm) or norm.weight is None or norm.weight.ndim != 1:
            return None
        scale = norm.weight.detach().numpy()
        return scale, np.zeros_like(scale) if norm.bias is None else norm.bias.detach().numpy()

    def answers(self, pixels: np.ndarray, only: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """What every unit, or ``only`` some, answers to ``pixels`` (B, 3, H, W), and is given where no unit made that.

        Units that ran more than once, that hand on what they were given or what a part of theirs answered, or that
        answer no float tensor with the batch (and perhaps windows) on its first axis are no units.
        """
        import torch
        from torch.utils.weak import WeakIdKeyDictionary

        calls: Counter = Counter()
        found: dict[str, np.ndarray] = {}
        made = WeakIdKeyDictionary()  # the tensors that units answered, as long as they live

        def note(name, tensor):
            if tensor.is_floating_point() and tensor.ndim > 1 and len(tensor) % len(pixels) == 0:
                if tensor not in made and (only is None or name in only):
                    found[name] = tensor.clone().numpy()  # a later unit may write into the tensor
                made[tensor] = True

        def before(name, given):
            scores = isinstance(self.modules[name], torch.nn.Softmax)  # a graph may leave out what softmax does not see
            if isinstance(given, torch.Tensor) and not scores:
                note(name + INPUT, given)

        def after(name, value):
            calls[name] += 1
            tensor = _tensor(value)
            if tensor is not None:
                note(name, tensor)

        images = torch.from_numpy(pixels)
        made[images] = True
        self._run(images, before, after)
        return {name: value for name, value in found.items() if calls[name.removesuffix(INPUT)] == 1}

    def forced(self, pixels: np.ndarray, names: Collection[str], value: Callable, judge: Callable) -> None:
        """Run with other values handed on by the units ``names``: ``value(name, own answer)`` is asked for each once.

        ``judge(name, own answer, value)`` is told of each one, in the order in which they run.
        """
        import torch

        def other(name, own):
            made = np.ascontiguousarray(value(name, own.numpy()), dtype=np.float32)
            judge(name, own.numpy(), made)
            return torch.from_numpy(made)

        def before(name, given):
            return other(name + INPUT, given) if name + INPUT in names else None

        def after(name, answer):
            if name not in names:
                return None
            made = other(name, _tensor(answer))
            return (made, *answer[1:]) if isinstance(answer, tuple) else made

        self._run(torch.from_numpy(pixels), before, after)

    def _run(self, images, before: Callable, after: Callable) -> None:
        """Run the module; ``before`` is shown each part's first input, ``after`` its answer, and may return another."""
        import torch

        with self._hooked(before, after), torch.no_grad():
            self.module(images)

    @contextmanager
    def _hooked(self, before: Callable, after: Callable):
        def enter(name):
            def hook(part, inputs, named):
                key = None if inputs else next(iter(named), None)
                if not inputs and key is None:
                    return None
                given = before(name, inputs[0] if inputs else named[key])
                if given is None:
                    return None
                return ((given, *inputs[1:]), named) if inputs else (inputs, named | {key: given})

            return hook

        def leave(name):
            return lambda part, inputs, value: after(name, value)

        handles = [part.register_forward_pre_hook(enter(n), with_kwargs=True) for n, part in self.modules.items()]
        handles += [part.register_forward_hook(leave(n)) for n, part in self.modules.items()]
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
