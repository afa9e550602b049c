"""The plain export in OpenVINO, told to compute in FP32: on CPUs with BF16 its default is BF16."""

from __future__ import annotations

from exporter.subject import Run, Subject

COMPUTES = "torch's ONNX export in OpenVINO on the CPU, INFERENCE_PRECISION_HINT=f32"
PACKAGES = ("openvino",)


def make(subject: Subject) -> Run:
    from exporter.contenders._openvino import run

    return run(subject, "f32")
