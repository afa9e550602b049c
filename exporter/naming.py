"""Module paths: which block of the network a node, a kernel or an error belongs to."""

from __future__ import annotations

from collections.abc import Collection

ROOT = "(model)"
"""What stands for the module itself, outside of every child."""


def path_of(node_name: str) -> str:
    """The module path in a node's name: ``layers.0.blocks.1.attn`` of ``layers.0.blocks.1.attn/MatMul_3``."""
    return node_name.rpartition("/")[0]


def block_of(path: str) -> str:
    """The repeated block that a module path lies in, or its first component outside of any.

    ``layers.2.blocks.5.attn.qkv`` -> ``layers.2.blocks.5``; ``patch_embed.proj`` -> ``patch_embed``. A block ends
    at its last number, unless that number only counts the members of a Sequential inside it
    (``backbone.layer1.0.downsample.0`` -> ``backbone.layer1.0``).
    """
    parts = path.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    if not numbers:
        return parts[0] or ROOT
    last = numbers[0]
    for here in numbers[1:]:
        if parts[here - 1] not in CONTAINERS:
            break
        last = here
    return ".".join(parts[: last + 1])


CONTAINERS = frozenset({"blocks", "layers", "layer", "stages", "block"})
"""Names under which libraries number the blocks of a stage."""


def inside(path: str, roots: Collection[str]) -> str | None:
    """The one of the modules ``roots`` that a path is, or lies in; ROOT stands for what lies in no module at all."""
    return next((r for r in roots if path == r or path.startswith(f"{r}.") or (r == ROOT and not path)), None)


def part_of(path: str) -> str:
    """The part of a block that a module path lies in: ``layers.0.blocks.1.attn`` of ``layers.0.blocks.1.attn.qkv``.

    What is the block's own, its residual sums, is ``layers.0.blocks.1 (own)``: a name that no block has.
    """
    block = block_of(path)
    rest = path.removeprefix(block).lstrip(".") if block != ROOT else ""
    return f"{block}.{rest.split('.')[0]}" if rest else f"{block}{OWN}"


OWN = " (own)"
