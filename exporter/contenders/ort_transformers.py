"""onnxruntime.transformers' optimizer (model type ``vit``) on the plain export, in ONNX Runtime."""

from __future__ import annotations

from exporter.subject import Run, Subject

COMPUTES = "the export after onnxruntime.transformers' optimizer (vit), in ONNX Runtime on the CPU, FP32"
PACKAGES = ("onnxruntime",)


def make(subject: Subject) -> Run:
    import logging

    from onnxruntime.transformers import optimizer

    from exporter import onnxio
    from exporter.contenders._onnxruntime import run

    path = subject.folder / "before_ort_transformers.onnx"
    onnxio.save(subject.graph(subject.raw), path)
    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    made = optimizer.optimize_model(str(path), model_type="vit", num_heads=0, hidden_size=0, opt_level=0, use_gpu=False)
    return run(made.model, subject, "ort_transformers")
