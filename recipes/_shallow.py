"""The same network with a few of its blocks, for tests: export, counts, fusion and parity in seconds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from exporter.types import Recipe


def shallow(**few: Any) -> Callable[[Callable[..., Recipe]], Callable[..., Recipe]]:
    """Decorates what makes a family's recipes: each gets a ``shallow`` one, made with these arguments instead.

    Both come of one function of the depth, so the counts of the shallow one are the whole one's rule.
    """

    def decorate(make: Callable[..., Recipe]) -> Callable[..., Recipe]:
        @functools.wraps(make)
        def made(*arguments, **named) -> Recipe:
            return replace(make(*arguments, **named), shallow=make(*arguments, **named | few))

        return made

    return decorate


def shorten(module, chain: str, blocks: int):
    """Keep the first ``blocks`` modules of every ``chain``, a path in which ``*`` stands for all members.

    Raises AttributeError where no such chain is: another release of the library has renamed it.
    """
    parent, _, name = chain.rpartition(".")
    for owner in _members(module, parent.split(".") if parent else []):
        setattr(owner, name, getattr(owner, name)[:blocks])
    return module


def _members(module, path: list[str]) -> Iterator:
    if not path:
        yield module
        return
    owners = module.children() if path[0] == "*" else [getattr(module, path[0])]
    for owner in owners:
        yield from _members(owner, path[1:])
