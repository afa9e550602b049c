"""A Triton Inference Server on loopback, for a person and for tests: the real binary of NVIDIA's ``nvidia-pytriton``.

The wheel's server has the python backend and needs no GPU. It is unpacked beside this Python (``make tritonserver``),
because pip would take numpy back to 1.x for it. Clients cannot load models or map memory: model control is ``none``,
and those APIs ask for a header whose value nobody is told.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from exporter.errors import UsageError

WHEEL = "nvidia-pytriton==0.7.0"
HERE = Path(sys.prefix) / "tritonserver"
CLOSED = "model-repository,shared-memory"
"""APIs through which a client could make the server run or read what the client chooses."""

READY_SECONDS = 120
STOP_SECONDS = 8

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a process gets when its parent dies."""


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


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def command(
    server: Path, repository: Path, http: int, grpc: int, control: str = "none", memory: str = "vit"
) -> list[str]:
    """The server's words: loopback only, no metrics, no API by which a client loads models or maps memory.

    ``memory`` begins the names of the shared memory between the server and its workers.
    """
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
        f"--backend-config=python,shm-region-prefix-name={memory}",
    ]


def environment(server: Path) -> dict[str, str]:
    """The server's environment: its embedded Python finds this one's packages by the first ``python3`` in PATH."""
    libraries = [str(server / "libs"), sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH", "")]
    return os.environ | {
        "PATH": f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
    }


@dataclass
class Server:
    """A running tritonserver. ``memory`` begins the names of its shared memory, which its workers' words hold, too."""

    process: subprocess.Popen
    http: int
    grpc: int
    log: Path
    memory: str

    def crashed_workers(self) -> list[int]:
        """Its children that died and that it has not noticed; one that it ended itself is there for a moment only."""
        return [pid for pid, parent, state in _processes() if parent == self.process.pid and state == "Z"]

    def workers(self) -> list[int]:
        """The living processes of its python backend, one an instance of a model."""
        return [pid for pid, parent, state in _processes() if parent == self.process.pid and state != "Z"]

    def cpu_seconds(self) -> float:
        """What it and its workers have computed so far."""
        return sum(_cpu_seconds(pid) for pid in (self.process.pid, *self.workers()))

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End it, at its own pace for a while; what a killed one leaves behind, workers and memory, goes, too."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid, _, _ in _processes():
            with contextlib.suppress(OSError):
                if self.memory.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
        for left in Path("/dev/shm").glob(f"{self.memory}*"):
            left.unlink(missing_ok=True)

    def wait(self) -> None:
        """Return when it is ready; :class:`UsageError` with its own words where it does not get there."""
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            if is_ready(self.http):
                return
            time.sleep(0.1)
        lines = self.log.read_text().splitlines()
        said = [line for line in lines if line.startswith(("E", "error")) and "cuda" not in line.lower()]
        raise UsageError(
            "the server does not start",
            stage="serve",
            found="; ".join(line.partition('"')[2] or line for line in said[:3])
            or f"nothing; {self.log} has its words",
            expected="every model of the repository ready",
            next="make triton MODEL=<model> writes a repository",
        )


def check_ports(http: int, grpc: int) -> None:
    """:class:`UsageError` for two numbers that are not two free ports of this machine."""
    wrong = [why for knob, port in (("HTTP", http), ("GRPC", grpc)) if (why := _unusable(knob, port))]
    if wrong or http == grpc:
        raise UsageError(
            "the server cannot listen", stage="serve", found="; ".join(wrong) or f"HTTP={http} and GRPC={grpc}",
            expected="two free ports from 1 to 65535", next="make serve HTTP=8010 GRPC=8011",
        )  # fmt: skip


def _unusable(knob: str, port: int) -> str:
    """Why nobody can listen at a port, or ''."""
    if not 1 <= port <= 65535:
        return f"{knob}={port}"
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a server does: what lingers is no listener
        try:
            one.bind(("127.0.0.1", port))
        except OSError as error:
            return f"{knob}={port}: {error.strerror}"
    return ""


def ends_with_its_parent() -> Callable[[], None] | None:
    """What a child runs first, so that it is told to end when the thread that started it does, killed or not.

    None where the system has no such call; it is looked up here because a child of many threads may not.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return prctl and (lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM))


def launch(repository: Path, http: int, grpc: int, control: str, log: Path) -> Server:
    """A server that begins to load its models; :class:`UsageError` where it cannot listen."""
    check_ports(http, grpc)
    server, memory = root(), f"vit_{os.getpid()}_{uuid.uuid4().hex[:8]}"
    with open(log, "w") as out:
        process = subprocess.Popen(
            command(server, repository, http, grpc, control, memory), env=environment(server), stdout=out, stderr=out,
            preexec_fn=ends_with_its_parent(),
        )  # fmt: skip
    return Server(process, http, grpc, log, memory)


def log_file() -> Path:
    """Where a server of this process writes unless it is told."""
    return Path(tempfile.gettempdir()) / f"tritonserver.{os.getpid()}.log"


@contextlib.contextmanager
def started(
    repository: Path, http: int = 8000, grpc: int = 8001, *, control: str = "none", log: Path | None = None,
    patience: float = STOP_SECONDS,
) -> Iterator[Server]:  # fmt: skip
    """A server that is ready, given ``patience`` seconds at the end to stop by itself.

    Raises :class:`UsageError` with its own words where it does not start.
    """
    server = launch(repository, http, grpc, control, log or log_file())
    try:
        server.wait()
        yield server
    finally:
        server.stop(patience)


def is_ready(http: int, model: str = "") -> bool:
    """Whether the server, or one model of it, says that it takes requests; one whose worker died says so, too."""
    path = f"v2/models/{model}/ready" if model else "v2/health/ready"
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/{path}", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def _processes() -> Iterator[tuple[int, int, str]]:
    """(pid, parent's pid, state) of every process; Z is one that died and that its parent has not asked about."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            yield int(folder.name), int(parent), state


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process; 0 where it is gone."""
    with contextlib.suppress(OSError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0
