"""ONNX Runtime on the CPU as a user has it: all of its own optimisations, one session, nothing shared or skipped."""

from __future__ import annotations

import onnx
import onnxruntime

from exporter import onnxio
from exporter.subject import Run, Subject

PACKAGES = ("onnxruntime",)


def run(model: onnx.ModelProto, subject: Subject, name: str) -> Run:
    """A query of ``model``; its file is written for it, since protobuf ends at 2 GiB."""
    path = subject.folder / f"{name}.onnx"
    onnxio.save(model, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = subject.threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")  # at a run's end; the next one is another's
    made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {made.get_inputs()[0].name: subject.pixels()}
    return lambda: made.run(None, feed)
