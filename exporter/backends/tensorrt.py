"""TensorRT and TensorRT-RTX, through Polygraphy: one code path for both libraries.

A build runs in a child process (``python -m exporter.backends.tensorrt job.json``): Polygraphy decides at import
which of the two libraries it drives, a crash in native code must not take the tool with it, and the compiler's
memory is returned when it is done. ``tensorrt-rtx`` compiles ahead of time for any of its compute capabilities and
needs no GPU; ``tensorrt`` compiles for the GPU of the machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from exporter.errors import UsageError
from exporter.files import FULL
from exporter.memory import peak_bytes
from exporter.types import Batch

MODULES = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}
RTX_TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""What ``tensorrt_rtx.ComputeCapability`` of the pinned version knows."""

REFUSED = 3
"""The child's exit code where the compiler does not accept the graph; its last line is JSON with the reason."""

UNWRITTEN = 4
"""The child's exit code where it cannot write its files; its last line is JSON: errno and message."""

INSPECTED = ".layers.json"
"""Suffix, in place of the log's, of the engine inspector's list of layers."""

NATIVE = "native"
"""The target of the ``tensorrt`` backend: the GPU that is in the machine."""


@dataclass(frozen=True)
class Job:
    """One build. ``shape`` is the input's without the batch axis; ``engine`` and ``log`` are written."""

    onnx: str
    engine: str
    log: str
    backend: str
    targets: tuple[str, ...]
    batch: tuple[int, int, int]
    input_name: str
    shape: tuple[int, ...]
    tf32: bool


@functools.cache
def cuda_device() -> tuple[str | None, str]:
    """(compute capability such as ``sm80``, '') of GPU 0, or (None, why there is none), asked of the CUDA driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None, "no CUDA driver on this machine (libcuda.so.1 cannot be loaded)"
    count, major, minor, device = (ctypes.c_int() for _ in range(4))
    if code := cuda.cuInit(0):
        return None, f"the CUDA driver does not start (cuInit: error {code})"
    if cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None, "the CUDA driver sees no GPU"
    cuda.cuDeviceGet(ctypes.byref(device), 0)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    return f"sm{major.value}{minor.value}", ""


def version(backend: str) -> str:
    """The installed library's version; :class:`UsageError` where it is not installed."""
    try:
        return importlib.metadata.version(MODULES[backend].replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        extra = "'.[tensorrt]'" if backend == "tensorrt" else "."
        raise UsageError(
            f"{backend} is not installed",
            stage="compile",
            found="no such package",
            expected=MODULES[backend],
            next=f".venv/bin/pip install -e {extra}",
        ) from None


@dataclass(frozen=True)
class Built:
    """What a build cost: seconds, and the compiler process's peak of resident memory in bytes."""

    seconds: float
    peak_bytes: int


def build(jobs: list[Job], model: str) -> list[Built]:
    """Compile each ``job.onnx`` into ``job.engine`` and the compiler's log, side by side, each in its own process.

    Raises :class:`UsageError` with the compiler's own reason where it refuses a graph, dies or runs out of memory.
    Whatever ends this call ends the processes.
    """
    children: list[subprocess.Popen] = []
    try:
        children.extend(map(_start, jobs))
        return [_finish(job, child, model) for job, child in zip(jobs, children, strict=True)]
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()


def _start(job: Job) -> subprocess.Popen:
    here = str(Path(__file__).parents[2])
    environment = dict(
        os.environ,
        POLYGRAPHY_USE_TENSORRT_RTX=str(int(job.backend == "tensorrt-rtx")),
        POLYGRAPHY_AUTOINSTALL_DEPS="0",
        PYTHONPATH=os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH")))),
    )
    command = [sys.executable, "-m", "exporter.backends.tensorrt", json.dumps(asdict(job)), str(os.getpid())]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, **pipes)


def _finish(job: Job, child: subprocess.Popen, model: str) -> Built:
    out, err = child.communicate()
    if child.returncode == 0:
        return Built(**json.loads(out.splitlines()[-1]))
    if child.returncode == UNWRITTEN:
        raise OSError(*json.loads(out.splitlines()[-1]))
    if child.returncode == REFUSED:
        found = json.loads(out.splitlines()[-1])["error"]
    elif child.returncode < 0:
        died = signal.Signals(-child.returncode).name
        found = f"the compiler was killed by {died}" + (", probably out of memory" if died == "SIGKILL" else "")
    else:
        raise RuntimeError(f"the build process failed:\n{err}")
    raise UsageError(
        f"{job.backend} does not compile this graph for {', '.join(job.targets)}",
        model=model,
        stage="compile",
        found=found,
        expected="a graph that the compiler accepts",
        next="TARGET=<one target> tells which one refuses; PRECISION=fp16 is the form that compiles most widely",
    )


def _recording_logger(trt, lines: list[tuple[str, str]]):
    class Recorder(trt.ILogger):
        """Keeps every message with its severity."""

        def __init__(self):
            trt.ILogger.__init__(self)

        def log(self, severity, message):
            lines.append((severity.name, message))

    return Recorder()


def _build_here(job: Job) -> None:
    """The child's work: parse, configure, compile, write the engine and the log."""
    started = time.perf_counter()
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = {"": G_LOGGER.CRITICAL}
    import polygraphy.backend.trt.util as trt_util
    from polygraphy.backend.trt import (
        CreateConfig,
        PostprocessConfig,
        Profile,
        engine_bytes_from_network,
        network_from_onnx_path,
    )

    trt = __import__(MODULES[job.backend])
    lines: list[tuple[str, str]] = []
    trt_util.TRT_LOGGER = _recording_logger(trt, lines)
    strongly_typed = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")  # 12 has no other kind
    options = {"profiling_verbosity": trt.ProfilingVerbosity.DETAILED}
    if Batch(*job.batch).static is False:
        options["profiles"] = [Profile().add(job.input_name, *((size, *job.shape) for size in job.batch))]
    if job.backend == "tensorrt-rtx":
        from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

        config = CreateConfigRTX(compute_capabilities=[capability(t) for t in job.targets], **options)
    else:
        config = CreateConfig(**options)

    def set_tf32(builder, network, config):  # on by default, where FP32 is asked for it must be off
        (config.set_flag if job.tf32 else config.clear_flag)(trt.BuilderFlag.TF32)

    config = PostprocessConfig(config, func=set_tf32)
    try:
        network = network_from_onnx_path(job.onnx, strongly_typed=strongly_typed)
        engine = engine_bytes_from_network(network, config=config)
    except Exception as error:
        errors = [text for severity, text in lines if severity in ("ERROR", "INTERNAL_ERROR")]
        print(json.dumps({"error": reason(errors) or str(error)}))
        sys.exit(REFUSED)
    finally:
        Path(job.log).write_text("\n".join(f"{severity} {text}" for severity, text in lines) + "\n")
    with open(job.engine, "wb") as f:
        f.write(engine)
    if job.backend == "tensorrt":  # its log lists no layers; its engines can be read where they are built
        loaded = trt.Runtime(trt_util.TRT_LOGGER).deserialize_cuda_engine(engine)
        layers = loaded.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
        Path(job.log).with_suffix(INSPECTED).write_text(layers)
    print(json.dumps({"seconds": round(time.perf_counter() - started, 2), "peak_bytes": peak_bytes()}))


def reason(errors: list[str]) -> str:
    """What the compiler's error messages say, on one line: no source positions, no complaint that there is no GPU."""
    said = []
    for error in errors:
        text = re.sub(r"\b\w+\.cpp:\d+:? ?|ERROR: ?", "", " ".join(error.split()))
        if text and not text.startswith("---") and "catchCudaError" not in text:
            said.append(text[:400])
    return " | ".join(said[:4])


def capability(target: str) -> tuple[int, int]:
    """``sm120`` -> (12, 0)."""
    return int(target[2:-1]), int(target[-1])


def runner(engine: Path, backend: str):
    """A Polygraphy runner for an engine file; needs a CUDA device and the library that built the engine."""
    os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = str(int(backend == "tensorrt-rtx"))
    from polygraphy.backend.common import BytesFromPath
    from polygraphy.backend.trt import EngineFromBytes, TrtRunner

    return TrtRunner(EngineFromBytes(BytesFromPath(str(engine))), name="engine")


def latency(engine: Path, backend: str, feed: dict, rounds: int = 100) -> float:
    """Median microseconds of an inference with inputs and outputs on the GPU, after as many again to warm up."""
    with runner(engine, backend) as active:
        on_device = {name: tensor.cuda() for name, tensor in feed.items()}
        seconds = []
        for _ in range(2 * rounds):
            active.infer(on_device, check_inputs=False, copy_outputs_to_host=False)
            seconds.append(active.last_inference_time())
    return 1e6 * sorted(seconds[rounds:])[rounds // 2]


def _die_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent ends in any way, and end now if it already did."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    _die_with(int(sys.argv[2]))
    fields = json.loads(sys.argv[1])
    try:
        _build_here(Job(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}))
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(json.dumps([error.errno, error.strerror]))
        sys.exit(UNWRITTEN)
