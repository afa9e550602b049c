"""The plain export in OpenVINO in BF16, where the CPU has it."""

from __future__ import annotations

from exporter.errors import UsageError
from exporter.subject import Run, Subject

COMPUTES = "torch's ONNX export in OpenVINO on the CPU, INFERENCE_PRECISION_HINT=bf16"
PACKAGES = ("openvino",)


def make(subject: Subject) -> Run:
    from exporter.contenders._openvino import capabilities, run

    if "BF16" not in (able := capabilities()):
        raise UsageError(
            "OpenVINO has no BF16 on this CPU: it would compute in FP32 under another name",
            found=", ".join(able),
            expected="BF16 (AVX-512 BF16 or AMX)",
            next="VS=openvino",
        )
    return run(subject, "bf16")
