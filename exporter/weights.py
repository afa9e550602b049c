"""Where a model's weights come from: the hub, a seed, or a file of the user's.

``auto`` takes the pretrained weights and, where the hub cannot be reached, random ones, said loudly.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import ParseResult, urlparse
from urllib.request import getproxies, proxy_bypass

from exporter import modules
from exporter.checkpoint import read, some, without_prefix
from exporter.errors import UsageError
from exporter.files import sha256_file, sha256_text
from exporter.types import ModuleSpec, Recipe

if TYPE_CHECKING:
    import torch

SEED = 0
HUB_FILE = "model.safetensors"
REACH_SECONDS = 2.0


@dataclass(frozen=True)
class Weights:
    """Located weights. ``kind`` is ``pretrained``, ``random`` or ``checkpoint``; ``why`` says why random."""

    kind: str
    source: str
    sha256: str
    path: Path | None = None
    why: str = ""

    def as_dict(self) -> dict:
        return {"source": self.source, "kind": self.kind, "sha256": self.sha256} | (
            {"why": self.why} if self.why else {}
        )


def locate(recipe: Recipe, wanted: str) -> Weights:
    """Find out which weights ``wanted`` (``auto``, ``pretrained``, ``random``, a path) means now, and hash them."""
    if wanted == "random":
        return _random(recipe, "asked for")
    if wanted in ("auto", "pretrained") and recipe.shipped is not None:
        return _shipped(recipe)
    if wanted in ("auto", "pretrained"):
        path, why = _from_address(recipe) if recipe.url else _from_hub(recipe)
        if path is not None:
            name = recipe.url or f"hf:{recipe.hub}"
            return Weights("pretrained", name, sha256_file(path), path)
        if wanted == "auto":
            return _random(recipe, why)
        raise UsageError(
            "the pretrained weights cannot be had",
            model=recipe.name,
            stage="weights",
            found=why,
            expected=f"{recipe.hub or 'a published checkpoint'}",
            next=f"make engine MODEL={recipe.name} WEIGHTS=<path to a .safetensors or .pt>  or  WEIGHTS=random",
        )
    path = Path(os.path.expanduser(wanted))
    if not os.path.isfile(path):  # unlike Path's, no error where the name is too long
        raise UsageError(
            f"the checkpoint {wanted} does not exist",
            model=recipe.name,
            stage="weights",
            found="a folder" if os.path.isdir(path) else "no such file",
            expected="a .safetensors, .pt, .pth or .bin file, or one of auto, pretrained, random",
            next=f"make engine MODEL={recipe.name} WEIGHTS=<path>",
        )
    try:
        return Weights("checkpoint", path.name, sha256_file(path), path)
    except OSError as error:
        raise UsageError(
            f"the checkpoint {wanted} cannot be read",
            model=recipe.name,
            stage="weights",
            found=error.strerror,
            expected="a file that this user may read",
            next=f"chmod u+r {wanted}",
        ) from None


def _random(recipe: Recipe, why: str) -> Weights:
    return Weights("random", f"random, seed {SEED}", sha256_text("random", str(SEED), recipe.name), why=why)


def _shipped(recipe: Recipe) -> Weights:
    """The weights that lie beside the recipe or the config."""
    path = recipe.shipped
    if not path.is_file():
        raise UsageError(
            "the model's weights are not where they should be",
            model=recipe.name,
            stage="weights",
            found=f"no {path.name} in {path.parent}",
            expected="a model.safetensors of one piece" if path.name == HUB_FILE else str(path),
            next=f"make engine MODEL={recipe.name} WEIGHTS=<path to a .safetensors or .pt>  or  WEIGHTS=random",
        )
    name = str(path) if recipe.origin else f"recipes/trained/{path.name}"
    return Weights("pretrained", name, sha256_file(path), path)


def _from_address(recipe: Recipe) -> tuple[Path | None, str]:
    """The file at the recipe's address, from torch's own cache or by download, or (None, why not)."""
    import torch

    target = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(recipe.url).path).name
    if target.is_file():
        return target, ""
    if why := out_of_reach(urlparse(recipe.url)):
        return None, why
    target.parent.mkdir(parents=True, exist_ok=True)
    ends = target.stem.rpartition("-")[2]  # torchvision's names end with the hash's first digits
    try:
        torch.hub.download_url_to_file(recipe.url, str(target), ends if len(ends) == 8 else None, progress=False)
    except Exception as error:
        return None, f"{recipe.url}: {next(iter(str(error).splitlines()), type(error).__name__)}"
    return target, ""


def _from_hub(recipe: Recipe) -> tuple[Path | None, str]:
    """The hub's file from its local cache or by download, or (None, why not)."""
    if recipe.hub is None:
        return None, "nobody published weights for this model"
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE

    cached = try_to_load_from_cache(recipe.hub, HUB_FILE)
    if isinstance(cached, str):
        return Path(cached), ""
    if HF_HUB_OFFLINE:
        return None, "HF_HUB_OFFLINE is set and the weights are not in the hub's cache"
    if why := out_of_reach(urlparse(ENDPOINT)):
        return None, why
    try:
        return Path(hf_hub_download(recipe.hub, HUB_FILE)), ""
    except Exception as error:
        return None, f"{ENDPOINT}/{recipe.hub}: {next(iter(str(error).splitlines()), type(error).__name__)}"


def out_of_reach(host: ParseResult) -> str:
    """Why a host cannot be reached, or ''. Clients retry for minutes; one connection tells whether that has a point."""
    if _behind_a_proxy(host):
        return ""
    try:
        port = host.port or (80 if host.scheme == "http" else 443)
        socket.create_connection((host.hostname, port), REACH_SECONDS).close()
    except OSError as error:
        return f"{host.hostname} cannot be reached ({error.strerror or error})"
    return ""


def _behind_a_proxy(host: ParseResult) -> bool:
    """Whether the environment sends requests to this host through a proxy."""
    return bool(getproxies().keys() & {host.scheme, "all"}) and not proxy_bypass(host.hostname)


def count_classes(recipe: Recipe, weights: Weights) -> int:
    """The number of classes that a checkpoint's head was trained for; the recipe's own where it has no head."""
    if weights.kind != "checkpoint":
        return recipe.classes
    state = without_prefix(read(weights.path, recipe.name), lambda keys: any(h in keys for h in recipe.head))
    for name in recipe.head:
        if name in state and state[name].ndim:
            return int(state[name].shape[0]) - recipe.head_extra
    return recipe.classes


def load(module, weights: Weights, recipe: Recipe) -> list[str]:
    """Fill ``module`` with the weights, in place; returns what the recipe's key filter resampled to other sizes.

    Every parameter must be in the file with its shape, real numbers as real numbers (the integers of a quantised
    checkpoint mean nothing without their scales), and the file must hold nothing else; buffers that the module
    computes itself may be in the file. Otherwise :class:`UsageError` lists the names.
    """
    if weights.kind == "random":
        shake(module)
        return []
    wanted = module.state_dict()
    state = without_prefix(read(weights.path, recipe.name), lambda keys: len(wanted.keys() & keys) > len(wanted) // 2)
    read_sizes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if recipe.adapt is not None:
        try:
            state = recipe.adapt(state, module)
        except Exception as error:  # a filter meant for this family met a file of another one
            why = f"the family's key filter fails on it ({type(error).__name__}: {error})"
            raise _mismatch(recipe, weights, why) from None
    buffers = {name for name, _ in module.named_buffers()} - wanted.keys()
    state = {k: v for k, v in state.items() if k not in buffers}
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in wanted]
    shapes = [
        f"{k} {tuple(state[k].shape)}, the model has {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in state and state[k].shape != v.shape
    ]
    types = [
        f"{k} {state[k].dtype}, the model has {v.dtype}".replace("torch.", "")
        for k, v in wanted.items()
        if k in state and v.is_floating_point() and not state[k].is_floating_point()
    ]
    if missing or unexpected or shapes or types:
        lists = (("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes), ("wrong type", types))
        found = [f"{label} {len(names)}: {some(names)}" for label, names in lists if names]
        raise _mismatch(recipe, weights, "\n            ".join(found))
    module.load_state_dict(state, strict=False)
    sizes = {name: tuple(tensor.shape) for name, tensor in state.items() if name in wanted}
    return [
        f"{name} {read_sizes[name]} resampled to {size}"
        for name, size in sizes.items()
        if len(size) == len(read_sizes.get(name, ())) and size != read_sizes[name]
    ]


def _mismatch(recipe: Recipe, weights: Weights, found: str) -> UsageError:
    return UsageError(
        f"the checkpoint {weights.path.name} is not of this architecture",
        model=recipe.name,
        stage="weights",
        found=found,
        expected=f"the tensors of {recipe.name} ({recipe.hub or recipe.family})",
        next="MODEL=<the architecture it was trained with> (make list), or IMAGE=<the size it was trained at>",
    )


def shake(module, seed: int = SEED) -> None:
    """Give every constant tensor of a freshly initialised module small seeded values around what it is.

    Libraries initialise biases to 0, gains to 1 and statistics to (0, 1). A rewrite that lost a bias would go
    unnoticed on such weights, and the exporter would store all of them once.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        state = module.state_dict()
        for name, tensor in state.items():
            if tensor.is_floating_point() and tensor.numel() > 1 and (tensor == tensor.flatten()[0]).all():
                noise = torch.randn(tensor.shape, generator=generator) * 0.05
                tensor.add_(noise.abs() if name.endswith("running_var") else noise)


def module(
    recipe: Recipe, weights: Weights, spec: ModuleSpec, said: Callable[[str], None] = lambda text: None
) -> torch.nn.Module:
    """The recipe's torch module in eval mode, filled with the weights; random ones are the same everywhere.

    ``said`` is told of every tensor that was resampled because it was trained at another size.
    """
    import torch

    state = torch.random.get_rng_state()
    torch.manual_seed(SEED)
    try:
        made = modules.built(recipe, spec)
    finally:
        torch.random.set_rng_state(state)
    for text in load(made, weights, recipe):
        said(text)
    return made
