"""A Triton Inference Server on loopback, for a person and for tests: the real binary of NVIDIA's ``nvidia-pytriton``.

The wheel's server has the python backend and needs no GPU. It is unpacked beside this Python (``make tritonserver``),
because pip would take numpy back to 1.x for it. Clients cannot load models or map memory: model control is ``none``,
and those APIs ask for a header whose value nobody is told.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

from exporter.errors import UsageError

WHEEL = "nvidia-pytriton==0.7.0"
HERE = Path(sys.prefix) / "tritonserver"
CLOSED = "model-repository,shared-memory"
"""APIs through which a client could make the server run or read what the client chooses."""

READY_SECONDS = 120
STOP_SECONDS = 15


def root() -> Path:
    """The unpacked server: ``TRITON_ROOT``, or the one beside this Python; :class:`UsageError` where there is none."""
    found = Path(os.environ.get("TRITON_ROOT", HERE))
    if not (found / "bin" / "tritonserver").is_file():
        raise UsageError(
            "there is no tritonserver",
            stage="serve",
            found=f"nothing in {found}",
            expected="bin/tritonserver with the python backend",
            next="make tritonserver   or   TRITON_ROOT=<where it is>",
        )
    return found


def install(target: Path = HERE) -> Path:
    """Download the wheel and unpack its server into ``target``, with the stub of this Python's version."""
    stub = f"{sys.version_info.major}.{sys.version_info.minor}"
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
        done = subprocess.run([*words, "-d", scratch, WHEEL], capture_output=True, text=True)
        if done.returncode:
            raise UsageError(
                f"{WHEEL} cannot be downloaded", stage="serve", found=done.stderr.strip().splitlines()[-1:],
                expected="pip to reach the package index", next="TRITON_ROOT=<an unpacked tritonserver>",
            )  # fmt: skip
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            wheel.extractall(scratch)
        made = Path(scratch) / "pytriton" / "tritonserver"
        stubs = made / "python_backend_stubs" / stub / "triton_python_backend_stub"
        if not stubs.is_file():
            raise UsageError(
                "the server has no stub for this Python", stage="serve", found=f"Python {stub}",
                expected=", ".join(sorted(p.name for p in stubs.parents[1].iterdir())), next="make PYTHON=python3.11",
            )  # fmt: skip
        shutil.copy(stubs, made / "backends" / "python")
        shutil.move(Path(scratch) / "nvidia_pytriton.libs", made / "libs")
        for binary in (made / "bin" / "tritonserver", made / "backends" / "python" / stubs.name):
            binary.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(made, target)
    return target


def command(server: Path, repository: Path, http: int, grpc: int, control: str = "none") -> list[str]:
    """The server's words: loopback only, no metrics, no API by which a client loads models or maps memory."""
    closed = f"{CLOSED}:x-closed={secrets.token_hex(16)}"
    return [
        str(server / "bin" / "tritonserver"),
        f"--http-restricted-api={closed}",
        f"--grpc-restricted-protocol={closed}",
        f"--model-repository={repository.resolve()}",
        f"--backend-directory={server / 'backends'}",
        f"--model-control-mode={control}",
        *(["--repository-poll-secs=1"] if control == "poll" else []),
        "--http-address=127.0.0.1",
        f"--http-port={http}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc}",
        "--allow-metrics=false",
        "--exit-timeout-secs=5",
        "--backend-config=python,shm-default-byte-size=16777216",
    ]


def environment(server: Path) -> dict[str, str]:
    """The server's environment: its embedded Python finds this one's packages by the first ``python3`` in PATH."""
    libraries = [str(server / "libs"), sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH", "")]
    return os.environ | {
        "PATH": f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
    }


@contextlib.contextmanager
def started(
    repository: Path, http: int = 8000, grpc: int = 8001, *, control: str = "none", log: Path | None = None
) -> Iterator[subprocess.Popen]:
    """A server that is ready, stopped at the end; :class:`UsageError` with its own words where it does not start."""
    server = root()
    log = log or Path(tempfile.gettempdir()) / f"tritonserver.{os.getpid()}.log"
    with open(log, "w") as out:
        process = subprocess.Popen(
            command(server, repository, http, grpc, control), env=environment(server), stdout=out, stderr=out
        )
    try:
        _wait(process, http, log, control)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen, http: int, log: Path, control: str) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if is_ready(http):
            return
        time.sleep(0.2)
    said = [line for line in log.read_text().splitlines() if line.startswith(("E", "error"))]
    raise UsageError(
        "the server does not start",
        stage="serve",
        found="; ".join(line.partition('"')[2] or line for line in said[:3]) or f"nothing; {log} has its words",
        expected="every model of the repository ready",
        next="make triton MODEL=<model> writes a repository",
    )


def is_ready(http: int, model: str = "") -> bool:
    """Whether the server, or one model of it, takes requests."""
    path = f"v2/models/{model}/ready" if model else "v2/health/ready"
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/{path}", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False
