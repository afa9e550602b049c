"""ONNX Runtime on the CPU: sessions that share the weights with the proto instead of copying them."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime as ort

from exporter import onnxio

ort.set_default_logger_severity(3)  # it warns of every pattern that it did not optimise


_running: set[ort.RunOptions] = set()
"""The runs that are going on."""


class Session(ort.InferenceSession):
    """A session whose runs :func:`stop` can end."""

    weights: Mapping[str, ort.OrtValue]

    def run(self, output_names, input_feed, run_options=None):
        options = run_options or ort.RunOptions()
        _running.add(options)
        try:
            return super().run(output_names, input_feed, options)
        finally:
            _running.discard(options)


def stop() -> None:
    """Make every run that is going on raise, soon."""
    for options in tuple(_running):
        options.terminate = True


def session(
    model: onnx.ModelProto,
    weights: Mapping[str, np.ndarray] | None = None,
    threads: int = 0,
    optimised: bool = False,
    once: bool = False,
    in_order: bool = False,
) -> Session:
    """A CPU session for ``model``, of any size.

    The weights are handed over as arrays (``weights``, or the model's own initializers), never serialised: a
    model of 350 MB costs the time of reading its graph. The arrays must outlive what is returned, which
    keeps a reference to them. ``optimised``: all of ONNX Runtime's own fusions, as a user has them by default; without
    it the graph is run as it is. ``once``: for a few runs, so the weights are not repacked for the matrix kernels,
    which takes a large model longer than a run. ``in_order``: nodes run in the graph's order, not in ONNX Runtime's.
    """
    shell, arrays = onnxio.detach(model) if weights is None else (model, dict(weights))
    read = onnxio.read_names(shell.graph)
    arrays = {
        name: array for name, array in arrays.items() if name in read
    }  # others are gone before they are looked for
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    if in_order:
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    options.enable_mem_pattern = False  # its plan for one batch size is no use to the next and costs page faults
    options.add_session_config_entry("session.disable_prepacking", str(int(once)))
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(optimised)))  # others work beside it
    values = {name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}
    if values:
        options.add_external_initializers(list(values), list(values.values()))
    made = Session(shell.SerializeToString(), options, providers=["CPUExecutionProvider"])
    made.weights = values  # numpy memory behind the OrtValues lives as long as what reads it
    return made


def run(made: Session, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every output by name."""
    return dict(zip((o.name for o in made.get_outputs()), made.run(None, dict(feed)), strict=True))
