"""Outputs of several batches in one ``.npz`` file: ``<batch number>/<output name>``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

Outputs = list[dict[str, np.ndarray]]


def write(path: Path, outputs: Outputs) -> None:
    """Store ``outputs``; equal outputs are equal bytes."""
    np.savez(path, **{f"{i}/{name}": value for i, batch in enumerate(outputs) for name, value in batch.items()})


def read(path: Path) -> Outputs:
    """What :func:`write` stored."""
    batches: dict[int, dict[str, np.ndarray]] = {}
    with np.load(path) as stored:
        for key in stored.files:
            index, _, name = key.partition("/")
            batches.setdefault(int(index), {})[name] = stored[key]
    return [batches[i] for i in sorted(batches)]
