"""The torch module, compiled by TorchInductor."""

from __future__ import annotations

from exporter.subject import Run, Subject

COMPUTES = "the torch module after torch.compile, on the CPU, FP32"
ON_GPU = True
PACKAGES = ("torch",)


def make(subject: Subject) -> Run:
    import torch

    from exporter.contenders._torch import run
    from exporter.errors import UsageError

    made = run(subject, torch.compile)
    try:
        made()
    except Exception as error:  # most often: no C++ compiler
        raise UsageError(
            "torch.compile does not compile this module here",
            model=subject.recipe.name,
            found=next(iter(str(error).splitlines()), type(error).__name__)[:200],
            expected="a C++ compiler that TorchInductor can use",
            next="VS=torch",
        ) from error
    return made
