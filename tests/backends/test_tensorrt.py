"""Real builds by the real compiler, of graphs that compile in a second or two."""

import errno
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from exporter import flops, kernels, layers, onnxio
from exporter.backends import tensorrt
from exporter.errors import UsageError


@pytest.fixture
def model(tmp_path):
    """LayerNorm -> Linear -> GELU -> Linear in FP16, symbolic batch."""
    made = parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 22]>
        g (float16[batch, 16, 64] x) => (float16[batch, 16, 64] y) {
            n = LayerNormalization <axis: int = -1> (x, gain)
            a = MatMul (n, w1)
            h = Gelu (a)
            y = MatMul (h, w2)
        }""")
    rng = np.random.default_rng(0)
    for name, shape in (("gain", (64,)), ("w1", (64, 128)), ("w2", (128, 64))):
        values = rng.standard_normal(shape).astype(np.float16) * np.float16(0.1)
        made.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    for i, node in enumerate(made.graph.node):
        node.name = f"blocks.0/{node.op_type}_{i}"
    return made


def job(model, folder, batch=(1, 2, 4), targets=("sm80",), tf32=False, shape=(16, 64)):
    path = folder / "m.onnx"
    onnxio.save(model, path)
    return tensorrt.Job(str(path), str(folder / "m.engine"), str(folder / "m.log"), "tensorrt-rtx", targets, batch, "x",
                        shape, tf32)  # fmt: skip


def test_an_engine_is_compiled_without_a_gpu_and_its_kernels_name_the_onnx_nodes(model, tmp_path):
    asked = job(model, tmp_path, targets=("sm80", "sm120"))
    (built,) = tensorrt.build([asked], "tiny")
    assert Path(asked.engine).read_bytes()[:4] == b"vtrt"
    assert built.peak_bytes > 10**8 and built.seconds > 0
    found = layers.parse(Path(asked.log).read_text())
    assert {"blocks.0/MatMul_1", "blocks.0/MatMul_3"} <= {node for k in found for node in k.nodes}
    assert not list(tmp_path.glob("*.json"))


def test_a_static_build_has_every_size_and_all_the_flops(model, tmp_path):
    onnxio.fix_batch(model, 4)
    asked = job(model, tmp_path, batch=(4, 4, 4))
    tensorrt.build([asked], "tiny")
    counts = flops.per_node(model, 4)
    found = kernels.with_flops(layers.parse(Path(asked.log).read_text()), counts)
    assert all(k.bytes is not None for k in found)
    assert sum(k.flops for k in found) == sum(counts.values()) == 2 * 2 * 4 * 16 * 64 * 128


def test_equal_builds_are_equal_bytes(model, tmp_path):
    engines = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        asked = job(model, tmp_path / name)
        tensorrt.build([asked], "tiny")
        engines.append(Path(asked.engine).read_bytes())
    assert engines[0] == engines[1]


def test_what_the_compiler_refuses_is_a_usage_error_with_its_reason(tmp_path):
    model = parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 22]>
        g (float[batch, 4] x) => (float[n, 2] y) { y = NoSuchOperator (x) }""")
    with pytest.raises(UsageError) as caught:
        tensorrt.build([job(model, tmp_path, shape=(4,))], "tiny")
    error = caught.value
    assert (error.model, error.stage) == ("tiny", "compile")
    assert "NoSuchOperator" in error.found and "Traceback" not in str(error)
    assert not Path(tmp_path / "m.engine").exists()


def test_the_reason_is_on_one_line_and_not_the_missing_gpu():
    said = ["ModelImporter.cpp:140: While parsing node number 0 [Add]:", "ModelImporter.cpp:142: --- Begin node ---\nx",
            "[checkMacros.cpp::catchCudaError::250] no driver",
            "ModelImporter.cpp:151: ERROR: types\n differ"]  # fmt: skip
    assert tensorrt.reason(said) == "While parsing node number 0 [Add]: | types differ"


def test_bf16_is_refused_for_turing_by_the_compiler_too(model, tmp_path):
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        kind = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(kind), tensor.name))
    with pytest.raises(UsageError, match="sm75"):
        tensorrt.build([job(model, tmp_path, targets=("sm75",))], "tiny")


def test_a_child_that_is_killed_is_reported_as_such(model, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorrt.sys, "executable", str(tmp_path / "suicide"))
    (tmp_path / "suicide").write_text("#!/bin/sh\nkill -9 $$\n")
    (tmp_path / "suicide").chmod(0o755)
    with pytest.raises(UsageError, match="SIGKILL, probably out of memory"):
        tensorrt.build([job(model, tmp_path)], "tiny")


def test_a_fault_of_our_own_is_not_blamed_on_the_compiler(model, tmp_path):
    asked = job(model, tmp_path, targets=("smXX",))
    with pytest.raises(RuntimeError, match="build process failed"):
        tensorrt.build([asked], "tiny")


def test_a_disk_that_takes_no_more_is_the_systems_error(model, tmp_path):
    made = job(model, tmp_path)
    with pytest.raises(OSError) as caught:
        tensorrt.build([replace(made, engine="/dev/full")], "tiny")
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_is_stopped_leaves_no_process(by, model, tmp_path):
    script = (
        "import json, sys\nfrom exporter.backends import tensorrt\n"
        "fields = json.loads(sys.argv[1])\n"
        "job = tensorrt.Job(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})\n"
        "tensorrt.build([job, job], 'm')\n"
    )
    command = [sys.executable, "-c", script, json.dumps(vars(job(model, tmp_path)))]
    parent = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    while len(found := children.read_text().split()) < 2:
        assert parent.poll() is None
        time.sleep(0.005)
    parent.send_signal(by)
    parent.wait(20)
    deadline = time.monotonic() + 5  # a child that was still starting finds out that it is alone
    while any(map(alive, found)):
        assert time.monotonic() < deadline, "the compiler outlived its parent"
        time.sleep(0.02)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("target, wanted", [("sm75", (7, 5)), ("sm80", (8, 0)), ("sm120", (12, 0)), ("sm121", (12, 1))])
def test_compute_capabilities(target, wanted):
    assert tensorrt.capability(target) == wanted


def test_the_targets_are_those_that_the_library_knows():
    code = "import tensorrt_rtx as t; print(sorted(n for n in dir(t.ComputeCapability) if n.startswith('SM')))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {name.lower() for name in eval(out)} == set(tensorrt.RTX_TARGETS)


def test_no_driver_is_said_in_words(monkeypatch):
    def fail(name):
        raise OSError

    monkeypatch.setattr(tensorrt.ctypes, "CDLL", fail)
    assert tensorrt.cuda_device.__wrapped__() == (
        None,
        "no CUDA driver on this machine (libcuda.so.1 cannot be loaded)",
    )


@pytest.mark.parametrize("init, count, says", [(100, 0, "does not start"), (0, 0, "sees no GPU")])
def test_a_driver_without_a_gpu_is_said_in_words(init, count, says, monkeypatch):
    class Driver:
        def cuInit(self, flags):
            return init

        def cuDeviceGetCount(self, pointer):
            pointer._obj.value = count
            return 0

    monkeypatch.setattr(tensorrt.ctypes, "CDLL", lambda name: Driver())
    device, why = tensorrt.cuda_device.__wrapped__()
    assert device is None and says in why


def test_the_compute_capability_is_asked_of_the_driver(monkeypatch):
    class Driver:
        def cuInit(self, flags):
            return 0

        def cuDeviceGetCount(self, pointer):
            pointer._obj.value = 1
            return 0

        def cuDeviceGet(self, pointer, index):
            return 0

        def cuDeviceGetAttribute(self, pointer, attribute, device):
            pointer._obj.value = {75: 8, 76: 9}[attribute]
            return 0

    monkeypatch.setattr(tensorrt.ctypes, "CDLL", lambda name: Driver())
    assert tensorrt.cuda_device.__wrapped__() == ("sm89", "")


def test_a_backend_that_is_not_installed_says_what_to_install():
    pytest.importorskip("tensorrt_rtx", reason="only meaningful where the pinned backend is installed")
    try:
        tensorrt.version("tensorrt")
    except UsageError as error:
        assert "[tensorrt]" in error.next
    assert tensorrt.version("tensorrt-rtx")
