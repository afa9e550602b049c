"""What a measurement ran on, and what else the machine did meanwhile."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

BUSY = 0.15
"""Cores that other processes keep busy, from which on a run is called disturbed."""

TICKS = os.sysconf("SC_CLK_TCK")

GPU_FIELDS = ("name", "driver_version", "pstate", "clocks.sm", "clocks.mem", "clocks.max.sm", "power.draw",
              "power.limit", "temperature.gpu", "utilization.gpu", "clocks_throttle_reasons.active")  # fmt: skip


def describe() -> dict:
    """The machine: CPU, cores that this process may use, memory, kernel, Python."""
    cpu = _proc("cpuinfo", "model name") or platform.processor() or "unknown"
    memory = _proc("meminfo", "MemTotal")
    governor = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(memory.split()[0]) / 1e6, 1) if memory else None,
        "vnni": vnni(),
        "virtual": "hypervisor" in (_proc("cpuinfo", "flags") or "").split(),
        "governor": governor or "not told by the system",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "gpu": gpu(),
    }


def vnni() -> bool:
    """Whether the CPU multiplies bytes and adds them up in 32 bits in one instruction, as INT8 kernels want it."""
    flags = (_proc("cpuinfo", "flags") or _proc("cpuinfo", "Features") or "").split()
    return bool({"avx512_vnni", "avx_vnni", "asimddp"} & set(flags))


def gpu() -> dict | None:
    """Clocks, power state, temperature and load of GPU 0 as ``nvidia-smi`` tells them; None where there is none."""
    told = _nvidia_smi(f"--query-gpu={','.join(GPU_FIELDS)}", "--id=0")
    if not told:
        return None
    others = [row[0] for row in _nvidia_smi("--query-compute-apps=pid", "--id=0") if row[0] != str(os.getpid())]
    return dict(zip(GPU_FIELDS, told[0], strict=True)) | {"other_processes": len(others)}


def _nvidia_smi(*words: str) -> list[list[str]]:
    try:
        done = subprocess.run(
            ["nvidia-smi", *words, "--format=csv,noheader"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [[cell.strip() for cell in row] for row in csv.reader(done.stdout.splitlines()) if row]


@dataclass
class Watch:
    """While the block runs: clocks before and after, and how many cores other processes and the hypervisor took."""

    found: dict = field(default_factory=dict)

    def __enter__(self) -> Watch:
        self._before = (time.perf_counter(), *_busy(), _own())
        self.found["mhz"] = [_mhz()]
        self.found["load_average"] = [_load()]
        self.found["gpu"] = [gpu()]
        return self

    def __exit__(self, *error) -> None:
        started, busy, stolen, own = self._before
        seconds = max(time.perf_counter() - started, 1e-9)
        now_busy, now_stolen = _busy()
        foreign = (now_busy - busy) - (_own() - own)
        self.found |= {
            "seconds": round(seconds, 2),
            "foreign_cores": round(max(foreign, 0.0) / seconds, 3) if now_busy else None,
            "stolen_cores": round((now_stolen - stolen) / seconds, 3) if now_busy else None,
        }
        self.found["mhz"].append(_mhz())
        self.found["load_average"].append(_load())
        self.found["gpu"].append(gpu())


def disturbances(found: dict) -> list[str]:
    """Why the machine was not calm, in sentences; empty where it was."""
    said = []
    if (found.get("foreign_cores") or 0) > BUSY:
        said.append(f"other processes kept {found['foreign_cores']:.2f} cores busy")
    if (found.get("stolen_cores") or 0) > BUSY:
        said.append(f"the hypervisor took {found['stolen_cores']:.2f} cores")
    for state in found.get("gpu", ()):
        if not state:
            continue
        if state["other_processes"]:
            said.append(f"{state['other_processes']} other processes use the GPU")
        reasons = state["clocks_throttle_reasons.active"]
        if reasons.startswith("0x") and int(reasons, 16) & ~IDLE_OR_SET:
            said.append(f"the GPU held its clocks back ({reasons})")
    mhz = [m for m in found.get("mhz", ()) if m]
    if len(mhz) == 2 and abs(mhz[1] - mhz[0]) > 0.1 * mhz[0]:
        said.append(f"the CPU's clock went from {mhz[0]:.0f} to {mhz[1]:.0f} MHz")
    return list(dict.fromkeys(said))


IDLE_OR_SET = 0x1 | 0x2
"""Throttle reasons that are none while nothing runs (NVML: GpuIdle, ApplicationsClocksSetting)."""


def _busy() -> tuple[float, float]:
    """(seconds that the cores of this process's affinity were busy, seconds stolen) since boot; zeros if not told."""
    busy = stolen = 0.0
    wanted = {f"cpu{n}" for n in os.sched_getaffinity(0)}
    for line in _read("/proc/stat").splitlines():
        name, *numbers = line.split()
        if name in wanted:
            user, nice, system, _idle, _wait, irq, soft, steal = (int(n) for n in numbers[:8])
            busy += (user + nice + system + irq + soft) / TICKS
            stolen += steal / TICKS
    return busy, stolen


def _own() -> float:
    """Seconds of CPU that this process and its finished children used."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _mhz() -> float | None:
    told = _proc("cpuinfo", "cpu MHz")
    return float(told) if told else None


def _load() -> float | None:
    return round(os.getloadavg()[0], 2)


def _proc(file: str, key: str) -> str | None:
    """The first value of ``key`` in a file of /proc."""
    for line in _read(f"/proc/{file}").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
