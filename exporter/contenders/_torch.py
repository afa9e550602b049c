"""The recipe's torch module, with the bundle's weights where they can be had."""

from __future__ import annotations

from collections.abc import Callable

import torch

from exporter import weights
from exporter.subject import Run, Subject


def run(subject: Subject, prepare: Callable) -> Run:
    """A query of ``prepare(module)``."""
    torch.set_num_threads(subject.threads)
    where = weights.locate(subject.recipe, subject.weights)
    kind = getattr(torch, subject.element_type)
    module = prepare(weights.module(subject.recipe, where, subject.spec).to(subject.device, kind))
    pixels = torch.from_numpy(subject.pixels()).to(kind)

    def query() -> list:
        with torch.inference_mode():
            found = module(pixels.to(subject.device))
        return [t.float().cpu().numpy() for t in (found if isinstance(found, tuple) else (found,))]

    return query
