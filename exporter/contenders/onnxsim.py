"""onnxsim's output of the plain export in ONNX Runtime."""

from __future__ import annotations

from exporter.subject import Run, Subject

COMPUTES = "the export after onnxsim, in ONNX Runtime on the CPU, FP32"
PACKAGES = ("onnxsim", "onnxruntime")


def make(subject: Subject) -> Run:
    import onnxsim

    from exporter.contenders._onnxruntime import run

    model, _ = onnxsim.simplify(subject.graph(subject.raw))
    return run(model, subject, "onnxsim")
