"""The quantised graph in ONNX Runtime, with FP32 where it has 16 bits: the CPU computes in no narrow float."""

from __future__ import annotations

from exporter.errors import UsageError
from exporter.subject import Run, Subject

COMPUTES = (
    "model.onnx with its INT8 products as ONNX Runtime's CPU kernels take them (weights of 7 bits where the CPU has no "
    "VNNI) and FP32 around them"
)
PACKAGES = ("onnxruntime",)


def make(subject: Subject) -> Run:
    from exporter import cpu_int8, machine
    from exporter.contenders._onnxruntime import run

    model = subject.graph(subject.typed) if subject.typed else None
    if model is None or not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise UsageError(
            "there is no INT8 graph to run",
            model=subject.recipe.name,
            found="a precision without quantised products",
            expected="int8 or int8-bf16",
            next=f"make bench MODEL={subject.recipe.name} PRECISION=int8",
        )
    cpu_int8.adapt(model, seven_bits=not machine.vnni())
    return run(model, subject, "ours_int8")
