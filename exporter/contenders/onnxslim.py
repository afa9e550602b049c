"""onnxslim's output of the plain export in ONNX Runtime."""

from __future__ import annotations

from exporter.subject import Run, Subject

COMPUTES = "the export after onnxslim, in ONNX Runtime on the CPU, FP32"
PACKAGES = ("onnxslim", "onnxruntime")


def make(subject: Subject) -> Run:
    import onnxslim

    from exporter.contenders._onnxruntime import run

    return run(onnxslim.slim(subject.graph(subject.raw)), subject, "onnxslim")
