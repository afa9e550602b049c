"""The plain export in ONNX Runtime."""

from __future__ import annotations

from exporter.contenders._onnxruntime import PACKAGES as PACKAGES
from exporter.subject import Run, Subject

COMPUTES = "torch's ONNX export as it is, in ONNX Runtime on the CPU, FP32"


def make(subject: Subject) -> Run:
    from exporter.contenders._onnxruntime import run

    return run(subject.graph(subject.raw), subject, "plain")
