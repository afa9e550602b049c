"""OpenVINO on the CPU at a precision of its own choice of words."""

from __future__ import annotations

import openvino

from exporter import onnxio
from exporter.subject import Run, Subject


def run(subject: Subject, precision: str) -> Run:
    """A query of the plain export; ``precision`` is ``INFERENCE_PRECISION_HINT``."""
    path = subject.folder / f"openvino_{precision}.onnx"
    onnxio.save(subject.graph(subject.raw), path)
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": subject.threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    made = openvino.Core().compile_model(str(path), "CPU", settings)
    request, pixels = made.create_infer_request(), subject.pixels()
    request.infer([pixels], share_inputs=True)

    def query() -> list:
        request.infer([pixels], share_inputs=True)
        return [request.get_output_tensor(i).data for i in range(len(made.outputs))]

    return query


def capabilities() -> list[str]:
    """What the CPU plugin says that this CPU computes in."""
    return list(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
