"""``make doctor``: what a build needs, looked for on this machine, and what works here without the rest.

Every finding is a fact that was looked at now: ``ok``, ``limited`` (a build works, something about it does not) or
``broken`` (no build works), with what to type about it.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlparse

from exporter import memory
from exporter.backends import tensorrt
from exporter.errors import UsageError
from exporter.request import writable

OK, LIMITED, BROKEN = "ok", "limited", "broken"

DISK = 10 * 10**9
"""Bytes that the bundles and the cache of a large model take in every precision, about."""

MEMORY = 6 * 2**30
"""Bytes that a cold build of Swin-B was measured to need (5.6 GiB), and a little."""

REACH_SECONDS = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``next`` is what to type where it is not ``ok``."""

    what: str
    status: str
    found: str
    next: str = ""

    def as_dict(self) -> dict:
        return asdict(self)


def examine(out: Path) -> list[Finding]:
    """All findings, in the order in which they should be mended."""
    return [python(), *libraries(), folder(out), disk(out), ram(), compiler(), gpu(), hub()]


def python() -> Finding:
    """The interpreter: 3.10 or newer."""
    fits = sys.version_info >= (3, 10)
    return Finding(
        "Python", OK if fits else BROKEN, platform.python_version(), "" if fits else "make PYTHON=python3.11"
    )


def libraries() -> list[Finding]:
    """The packages that the tool asks for, each in the version that it asks for."""
    from packaging.requirements import Requirement

    wrong, right = [], 0
    for text in importlib.metadata.requires("vit-exporter") or []:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            there = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(Finding(wanted.name, BROKEN, "not installed", f".venv/bin/pip install '{wanted}'"))
            continue
        if wanted.specifier.contains(there, prereleases=True):
            right += 1
        else:
            found = f"{there}, not {wanted.specifier}: its bundles may differ from others'"
            wrong.append(Finding(wanted.name, LIMITED, found, f".venv/bin/pip install '{wanted}'"))
    return [Finding("libraries", OK, f"{right} as pinned"), *wrong] if right else wrong


def folder(out: Path) -> Finding:
    """Whether OUT can be written."""
    try:
        writable(out)
    except UsageError as error:
        return Finding("OUT", BROKEN, f"{out}: {error.found}", str(error.next))
    return Finding("OUT", OK, str(out))


def disk(out: Path) -> Finding:
    """Free bytes on the disk of OUT."""
    there = out.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    enough = free >= DISK
    return Finding("disk", OK if enough else LIMITED, f"{free / 1e9:.0f} GB free", "" if enough else "make clean-cache")


def ram() -> Finding:
    """Memory that is free now, or that the container's limit leaves."""
    free = memory.available_bytes()
    limit = _container_limit()
    free = min(free, limit) if limit else free
    enough = free >= MEMORY
    hint = "" if enough else "end other programs, or build the small models of make list"
    return Finding(
        "memory", OK if enough else LIMITED, f"{free / 2**30:.1f} GiB available, {os.cpu_count()} CPUs", hint
    )


def _container_limit() -> int:
    """The control group's limit in bytes, 0 for none."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0


def compiler() -> Finding:
    """The compiler that needs no GPU."""
    try:
        return Finding("compiler", OK, f"tensorrt-rtx {tensorrt.version('tensorrt-rtx')}, ahead of time, no GPU needed")
    except UsageError as error:
        return Finding("compiler", BROKEN, str(error.found), str(error.next))


def gpu() -> Finding:
    """The GPU and its driver; without one all but the engine's own parity and latency works."""
    device, why = tensorrt.cuda_device()
    if device is None:
        found = (
            f"{why}; engines are built and their graphs proven, typed/engine is not run, BACKEND=tensorrt is not there"
        )
        return Finding("GPU", LIMITED, found, "make parity on a machine with a GPU runs the last comparison")
    driver = Path("/proc/driver/nvidia/version")
    said = re.search(r"\d+\.\d+(\.\d+)?", driver.read_text()) if driver.is_file() else None
    return Finding("GPU", OK, f"{device}, driver {said[0] if said else 'unknown'}")


def hub() -> Finding:
    """Whether pretrained weights can be had: the hub at its own address, or through a proxy that is set."""
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE

    from exporter.weights import _behind_a_proxy

    host = urlparse(ENDPOINT)
    hint = "WEIGHTS=<a .safetensors or .pt file>; WEIGHTS=auto takes random ones, loudly"
    if HF_HUB_OFFLINE:
        return Finding("hub", LIMITED, "HF_HUB_OFFLINE is set: only weights in the hub's cache", hint)
    if _behind_a_proxy(host):
        return Finding("hub", OK, f"{host.hostname}, through a proxy (not tried)")
    try:
        port = host.port or (80 if host.scheme == "http" else 443)
        socket.create_connection((host.hostname, port), REACH_SECONDS).close()
    except OSError as error:
        return Finding("hub", LIMITED, f"{host.hostname} cannot be reached ({error.strerror or error})", hint)
    return Finding("hub", OK, f"{host.hostname} answers")
