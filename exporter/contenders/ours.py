"""The rewritten graph in ONNX Runtime."""

from __future__ import annotations

from exporter.subject import Run, Subject

COMPUTES = "model.fp32.onnx, the rewritten graph, in ONNX Runtime on the CPU, FP32"
PACKAGES = ("onnxruntime",)


def make(subject: Subject) -> Run:
    from exporter.contenders._onnxruntime import run

    return run(subject.graph(subject.rewritten), subject, "ours")
