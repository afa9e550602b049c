"""Checkpoint files: tensors by name, whatever a training script wrapped them in, and nothing that executes.

A ``.pt`` file is read as tensors; no object in it is ever unpickled.
"""

from __future__ import annotations

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
    head = path.open("rb").read(512)
    if head.startswith(b"version https://git-lfs"):
        raise broken("a Git LFS pointer, not the file it points to", "git lfs pull")
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        raise broken("an HTML page, probably a download that needed a login")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            state = load_file(path)
        except (SafetensorError, ValueError, OSError) as error:
            raise broken(f"{path.stat().st_size} bytes: {str(error).splitlines()[0]}") from None
    else:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            text = str(error)
            if "weights_only" in text or "Unsupported" in text:
                kind = next(
                    (ln.strip() for ln in text.splitlines() if "GLOBAL" in ln or "Unsupported" in ln), "objects"
                )
                raise broken(
                    f"pickled objects besides tensors ({kind[:160]})",
                    "save it where you trust it: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')",
                ) from None
            raise broken(
                f"{path.stat().st_size} bytes: {text.splitlines()[0] if text else type(error).__name__}"
            ) from None
    state = unwrap(state)
    if not state:
        raise broken("no tensors")
    bad = [
        f"{name} ({int((~value.isfinite()).sum())} of {value.numel()})"
        for name, value in state.items()
        if value.is_floating_point() and not value.isfinite().all()
    ]
    if bad:
        raise broken(f"NaN or Inf in {some(bad)}", "use a checkpoint from before the training diverged")
    return state


def unwrap(state: object) -> dict:
    """The innermost mapping of names to tensors: ``{"state_dict": {"module.x": t}}`` becomes ``{"x": t}``.

    An exponential moving average is preferred to the plain weights where a file has both, as timm does.
    """
    import torch

    while isinstance(state, dict) and not any(isinstance(v, torch.Tensor) for v in state.values()):
        state = next((state[k] for k in WRAPPERS if isinstance(state.get(k), dict)), None)
    if not isinstance(state, dict):
        return {}
    for wrapper in WRAPPERS:  # a file may keep counters as tensors beside the weights
        if isinstance(state.get(wrapper), dict):
            return unwrap(state[wrapper])
    tensors = {str(k): v for k, v in state.items() if isinstance(v, torch.Tensor)}
    for prefix in PREFIXES[:2]:
        while tensors and all(k.startswith(prefix) or k == "n_averaged" for k in tensors):
            tensors = {k.removeprefix(prefix): v for k, v in tensors.items() if k != "n_averaged"}
    return tensors


def without_prefix(state: dict, fits) -> dict:
    """``state`` with the common prefix removed that makes ``fits(keys)`` true, or as it is."""
    if fits(state.keys()):
        return state
    for prefix in PREFIXES:
        stripped = {k.removeprefix(prefix): v for k, v in state.items()}
        if fits(stripped.keys()):
            return stripped
    return state


def some(names: list[str], count: int = 6) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
