import threading
import time
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporter import schedule
from exporter.backends import onnxruntime as backend


def stage(name, needs=(), proof=False):
    return SimpleNamespace(NAME=name, NEEDS=needs, PROOF=proof)


STAGES = [
    stage("trace"),
    stage("raw_parity", ("trace",), proof=True),
    stage("rewrite", ("trace",)),
    stage("fp32_parity", ("raw_parity", "rewrite"), proof=True),
]


def test_every_stage_comes_after_its_needs_and_a_proof_runs_beside_what_is_built():
    order, started = [], {s.NAME: threading.Event() for s in STAGES}

    def bring(stage):
        started[stage.NAME].set()
        if stage.NAME == "rewrite":
            assert started["raw_parity"].wait(10), "the proof did not run beside the rewrite"
        if stage.NAME == "raw_parity":
            assert started["rewrite"].wait(10), "the rewrite did not run beside the proof"
        order.append((stage.NAME, threading.current_thread() is threading.main_thread()))

    schedule.run(STAGES, bring, lambda: None)
    assert {name for name, _ in order} == {s.NAME for s in STAGES}
    assert order[0] == ("trace", True) and order[-1] == ("fp32_parity", False)


@pytest.mark.parametrize("culprit", [s.NAME for s in STAGES])
def test_an_error_of_either_lane_is_raised_and_what_needs_it_does_not_run(culprit):
    ran, stopped = [], []

    def bring(stage):
        if culprit == stage.NAME:
            raise ValueError(culprit)
        ran.append(stage.NAME)

    with pytest.raises(ValueError, match=culprit):
        schedule.run(STAGES, bring, lambda: stopped.append(True))
    assert stopped
    assert all(culprit not in s.NEEDS for s in STAGES if s.NAME in ran)


def test_an_interrupt_ends_the_inference_that_runs_in_the_other_lane():
    count = 800  # more than a second of products
    nodes = [helper.make_node("MatMul", [f"x{i}", "w"], [f"x{i + 1}"]) for i in range(count)]
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [512, 512])],
        [helper.make_tensor_value_info(f"x{count}", TensorProto.FLOAT, [512, 512])],
        [onnx.numpy_helper.from_array(np.eye(512, dtype=np.float32), "w")],
    )
    slow = backend.session(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    began, times = threading.Event(), []

    def bring(stage):
        if stage.NAME == "raw_parity":
            times.append(time.perf_counter())
            began.set()
            try:
                slow.run(None, {"x0": np.eye(512, dtype=np.float32)})
            finally:
                times.append(time.perf_counter())
        elif stage.NAME == "rewrite":
            began.wait()
            time.sleep(0.2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        schedule.run(STAGES, bring, backend.stop)
    started = time.perf_counter()
    assert slow.run(None, {"x0": np.eye(512, dtype=np.float32)})[0].trace() == 512  # it runs again
    whole = time.perf_counter() - started
    assert times[1] - times[0] < 0.5 * whole
