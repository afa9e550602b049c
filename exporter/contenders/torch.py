"""The torch module, eager."""

from __future__ import annotations

from exporter.subject import Run, Subject

COMPUTES = "the torch module, eager, on the CPU, FP32"
ON_GPU = True
PACKAGES = ("torch",)


def make(subject: Subject) -> Run:
    from exporter.contenders._torch import run

    return run(subject, lambda module: module)
