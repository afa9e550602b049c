"""What the sources share: which family a module is of, how many attentions it has, what it is called."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from exporter.errors import UsageError, nearest
from exporter.naming import ROOT, inside
from exporter.types import canonical

if TYPE_CHECKING:
    import torch

FUSED = ("fp16", "bf16")
"""The precisions in which a known family's attentions are all fused."""

CLASSES = "class scores before the softmax"


@contextlib.contextmanager
def sketch() -> Iterator[None]:
    """Modules that are made here have shapes and no memory."""
    import torch

    with torch.device("meta"), torch.no_grad():
        yield


def attentions(module: torch.nn.Module) -> int:
    """How many innermost modules of a network call themselves attention."""
    named = {name: "attention" in type(m).__name__.lower() for name, m in module.named_modules()}
    return sum(
        there and not any(other.startswith(f"{name}.") and inner for other, inner in named.items())
        for name, there in named.items()
    )


def box_heads(module: torch.nn.Module) -> tuple[str, ...]:
    """The modules of a detector that make classes and boxes, by their names, and what it does to those itself."""
    found = [ROOT]
    for path, _ in module.named_modules():
        name = path.rpartition(".")[2]
        if any(word in name for word in ("bbox", "class", "score")) and inside(path, found) is None:
            found.append(path)
    return tuple(found)


def kept_wide(module: torch.nn.Module) -> dict[str, tuple[str, ...]]:
    """A detector's ``wide``: its heads around BF16, in 8 bits its decoder of a few queries, too."""
    heads = box_heads(module)
    return {"bfloat16": heads} | dict.fromkeys(("int8", "float8_e4m3fn"), (*heads, "model.decoder"))


def millions(module: torch.nn.Module) -> float:
    """Parameters in millions."""
    return round(sum(p.numel() for p in module.parameters()) / 1e6, 1)


def contract(module: torch.nn.Module, family: str | None) -> dict:
    """Fields of a recipe: of a known family every attention is due to be fused, of another nothing is promised."""
    if family is None:
        return {"family": "generic", "attention_blocks": None, "rewrites": canonical()}
    count = attentions(module)
    return {
        "family": family,
        "attention_blocks": count,
        "fused_attention": dict.fromkeys(FUSED, count) if count else {},
        "rewrites": canonical(**({"attention_form": count} if count else {})),
    }


def unknown(what: str, name: str, known: list[str], prefix: str) -> UsageError:
    """The error for a name that a library does not have, with the nearest that it has."""
    near = nearest(name, known)
    return UsageError(
        f"{what} has no model {name!r}",
        found=name,
        expected=f"a name such as {near}",
        next=f"make engine MODEL={prefix}:{near.split(', ')[0]}",
    )


def unusable(model: str, why: str, expected: str, hint: str) -> UsageError:
    """The error for a model that is there and cannot be taken."""
    return UsageError("this model cannot be taken", model=model, found=why, expected=expected, next=hint)
