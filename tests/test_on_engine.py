"""The engine examined unit by unit, with ONNX Runtime in the GPU's place: what is marked, what is named."""

from types import SimpleNamespace

import faults
import models
import numpy as np
import onnx
import pytest
import torch
from test_blame import copy, pixels, typed

from exporter import blame, onnxio, registry, trace, weights
from exporter.backends import tensorrt
from exporter.examined import Examined
from exporter.on_engine import OnEngine
from exporter.types import ModuleSpec, Request

RECIPE = models.VIT


@pytest.fixture(scope="module")
def made():
    torch.manual_seed(0)
    module = RECIPE.build(ModuleSpec(RECIPE.preprocessing.size, RECIPE.classes))
    weights.shake(module)
    return module, trace.export(module, RECIPE)


def request(precision="fp16", targets=("sm80",)):
    return Request(RECIPE, registry.precision(precision), RECIPE.batch, targets, "tensorrt-rtx", "random", "fp32", None)


def stand_in(faulty=None, plant=None, calls=None):
    """``compiled`` of an engine that computes as the numerics twin does, but for the fault that is planted into it."""

    def compiled(model, asked, device):
        onnxio.check(model)
        if calls is not None:
            calls.append([o.name for o in model.graph.output])
        model = copy(model)
        if plant:
            plant(model, faulty)
        graph = Examined(model)
        return graph.runner([])

    return compiled


def judged(module, model, precision="fp16", **engine):
    asked = request(precision)
    graph = OnEngine(model, asked, "sm80", stand_in(**engine))
    kind = asked.precision.element_type
    rung = blame.Rung(blame.ENGINE, model, kind, RECIPE.tolerances[precision], graph=graph)
    report, _, found = blame.judge(rung, module, RECIPE, pixels(RECIPE))
    return report, found


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_an_engine_that_computes_as_the_graph_says_has_nobody_guilty(made, precision):
    module, raw = made
    calls = []
    report, found = judged(module, typed(raw, precision), precision, calls=calls)
    assert found is None and report["status"] == "passed"
    assert len(calls[-1]) > 5 and len(set(calls[-1])) == len(calls[-1])


@pytest.mark.parametrize("unit", ["blocks.0.attn.proj", "blocks.1.mlp.fc1"])
def test_an_engine_that_computes_a_block_wrongly_has_that_block_guilty(made, unit):
    module, raw = made

    def plant(model, path):
        faults.weight(model, path, lambda w: w * w.dtype.type(1.1))

    _, found = judged(module, typed(raw), faulty=unit, plant=plant)
    assert found is not None and found["unit"].startswith(unit)


def test_the_engine_of_a_marked_graph_hands_out_its_tensors_in_their_own_types(made):
    model = typed(made[1], "bf16")
    kinds = {}

    def compiled(marked, asked, device):
        kinds.update({o.name: o.type.tensor_type.elem_type for o in marked.graph.output})
        return lambda rows: {}

    graph = OnEngine(model, request("bf16"), "sm80", compiled)
    inner = next(name for name, node in graph.tensors.items() if node.op_type == "MatMul")
    graph.runner([inner, inner, graph.outputs[0]])
    assert kinds == {graph.outputs[0]: onnx.TensorProto.FLOAT, inner: onnx.TensorProto.BFLOAT16}
    assert [o.name for o in model.graph.output] == graph.outputs


@pytest.mark.parametrize("device, precision, says", [
    ((None, "no CUDA driver"), "fp16", "no CUDA driver"), (("sm89", ""), "fp16", "the GPU here is sm89"),
    (("sm80", ""), "int8", "8 bits"), (("sm80", ""), "fp16", ""),
])  # fmt: skip
def test_where_the_engine_is_not_examined_the_reason_is_said(device, precision, says, monkeypatch):
    monkeypatch.setattr(tensorrt, "cuda_device", lambda: device)
    why = blame.without_engine(request(precision))
    assert says in why if says else why == ""


def test_on_a_machine_with_its_gpu_the_engine_is_the_last_rung(made, monkeypatch):
    monkeypatch.setattr(tensorrt, "cuda_device", lambda: ("sm80", ""))
    model = typed(made[1])
    build = SimpleNamespace(request=request(), model=lambda stage, file: model)
    (rung,) = blame.on_gpu(build)
    assert rung.name == "torch/engine" and isinstance(rung.graph, OnEngine) and rung.kind == "float16"
    assert rung.tolerance == RECIPE.tolerances["fp16"]


def test_the_engine_of_a_graph_is_compiled_for_the_gpu_and_fed_in_its_type(made, monkeypatch):
    """All but the device: the job that the compiler gets, and the runner's answers as FP32."""
    jobs, fed = [], []

    class Runner:
        active = False

        def __enter__(self):
            assert jobs
            self.active = True
            return self

        def __exit__(self, *caught):
            self.active = False

        def infer(self, feed):
            assert self.active
            fed.append(feed)
            return {"logits": torch.ones(2, 3, dtype=torch.bfloat16)}

    monkeypatch.setattr(tensorrt, "build", lambda made, model: jobs.extend(made))
    monkeypatch.setattr(tensorrt, "runner", lambda engine, backend: Runner())
    graph = OnEngine(typed(made[1]), request(), "sm80")
    found = graph.runner([])(np.zeros((2, *RECIPE.inputs[0].shape), np.float32))
    assert jobs[0].targets == ("sm80",) and jobs[0].batch == (RECIPE.batch.min, RECIPE.batch.opt, RECIPE.batch.max)
    assert fed[0]["pixels"].dtype == torch.float32
    assert found["logits"].dtype == np.float32 and (found["logits"] == 1).all()
