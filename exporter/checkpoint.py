"""Checkpoint files: tensors by name, whatever a training script wrapped them in, and nothing that executes.

A ``.pt`` file is read as tensors; no object in it is ever unpickled.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from exporter.errors import UsageError

WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "net",
    "network",
    "teacher",
)
"""Keys under which training scripts keep the weights, an exponential moving average before the plain ones."""

SAVE = "save it where you trust it: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"

PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "net.")
"""What DataParallel, torch.compile and Lightning put before every key."""


def read(path: Path, model: str) -> dict:
    """A checkpoint's tensors by name, wrappers and prefixes removed.

    A file that is damaged, is no checkpoint, holds anything but tensors, or holds NaN or Inf is a
    :class:`UsageError` that says which.
    """
    import torch

    def broken(found: str, hint: str | None = None) -> UsageError:
        return UsageError(
            f"the checkpoint {path.name} cannot be read",
            model=model,
            stage="weights",
            found=found,
            expected="a state dict in a .safetensors file, or in a .pt file that holds tensors only",
            next=hint or f"copy or download {path.name} again",
        )

    if path.stat().st_size == 0:
        raise broken("an empty file")
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"version https://git-lfs"):
        raise broken("a Git LFS pointer, not the file it points to", "git lfs pull")
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        raise broken("an HTML page, probably a download that needed a login")
    if path.suffix.lower() == ".safetensors" or _is_safetensors(head):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            state = load_file(path)
        except (SafetensorError, ValueError, OSError) as error:
            raise broken(f"{path.stat().st_size} bytes: {str(error).splitlines()[0]}") from None
    else:
        state = _tensors(path, broken)
    state = unwrap(state)
    if not state:
        raise broken("no tensors")
    odd = [f"{k} ({v.layout}, {v.device})" for k, v in state.items() if v.layout != torch.strided or v.is_meta]
    if odd:
        raise broken(f"tensors that hold no plain values: {some(odd)}", "save the dense tensors")
    wrong = {name: _not_finite(value) for name, value in state.items() if value.is_floating_point()}
    bad = [f"{name} ({count} of {state[name].numel()})" for name, count in wrong.items() if count]
    if bad:
        raise broken(f"NaN or Inf in {some(bad)}", "use a checkpoint from before the training diverged")
    return state


def _tensors(path: Path, broken) -> object:
    """What torch reads of a ``.pt`` file as tensors; else ``broken`` with the fact alone.

    torch's own text is not passed on: it tells people to read the file again with what it holds executed.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines()]
        objects = next((ln for ln in lines if "GLOBAL" in ln or "Unsupported class" in ln), None)
        if objects:
            kind = objects.removeprefix("WeightsUnpickler error: ").split(" was not an allowed")[0]
            raise broken(f"pickled objects besides tensors ({kind[:160]})", SAVE) from None
        if "TorchScript" in str(error):
            raise broken("a TorchScript program, not a state dict", SAVE) from None
        if "weights_only" in str(error) or not isinstance(error, (RuntimeError, OSError, EOFError)):
            operand = next((ln for ln in lines if ln.startswith("Unsupported")), type(error).__name__)
            raise broken(f"{path.stat().st_size} bytes that are no tensors ({operand})") from None
        said = lines[0].split(". ")[0] if lines else type(error).__name__
        raise broken(f"{path.stat().st_size} bytes: {said}") from None


def _not_finite(value) -> int:
    """How many values are NaN or Inf; torch cannot say that of its 8-bit types."""
    return int((~(value.float() if value.dtype.itemsize == 1 else value).isfinite()).sum())


def _is_safetensors(head: bytes) -> bool:
    """By content: eight bytes of length, then JSON; checkpoints travel under any suffix."""
    return head[8:9] == b"{"


def unwrap(state: object) -> dict:
    """The innermost mapping of names to tensors: ``{"state_dict": {"module.x": t}}`` becomes ``{"x": t}``.

    An exponential moving average is preferred to the plain weights where a file has both, as timm does.
    """
    import torch

    if not isinstance(state, dict):
        return {}
    for wrapper in WRAPPERS:  # before the tensors beside it: a file may keep counters as tensors
        if inner := unwrap(state.get(wrapper)):
            return inner
    tensors = {str(k): v for k, v in state.items() if isinstance(v, torch.Tensor)}
    for prefix in PREFIXES[:2]:
        while tensors and all(k.startswith(prefix) or k == "n_averaged" for k in tensors):
            tensors = {k.removeprefix(prefix): v for k, v in tensors.items() if k != "n_averaged"}
    return tensors


def without_prefix(state: dict, fits) -> dict:
    """``state`` without the prefixes, at most three deep, that must go for ``fits(keys)`` to hold; else as it is."""
    known = [state]
    for _ in range(3):
        if found := next((s for s in known if fits(s.keys())), None):
            return found
        known = [
            {k.removeprefix(prefix): v for k, v in s.items()}
            for s in known
            for prefix in PREFIXES
            if any(k.startswith(prefix) for k in s)
        ]
    return next((s for s in known if fits(s.keys())), state)


def some(names: list[str], count: int = 6) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
