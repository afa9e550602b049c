"""The same network with a few of its blocks, for tests: export, counts, fusion and parity in seconds.

A family's file makes both from one function of the depth, so the shallow one's counts are the whole one's rule.
"""

from __future__ import annotations

from collections.abc import Iterator


def shorten(module, chain: str, blocks: int):
    """Keep the first ``blocks`` modules of every ``chain``, a path in which ``*`` stands for all members.

    Raises LookupError where no such chain is: another release of the library has renamed it.
    """
    parent, _, name = chain.rpartition(".")
    found = 0
    for owner in _members(module, parent.split(".") if parent else []):
        chained = getattr(owner, name)
        setattr(owner, name, chained[:blocks])
        found += 1
    if not found:
        raise LookupError(f"{type(module).__name__} has no {chain}")
    return module


def _members(module, path: list[str]) -> Iterator:
    if not path:
        yield module
        return
    owners = module.children() if path[0] == "*" else [getattr(module, path[0])]
    for owner in owners:
        yield from _members(owner, path[1:])
