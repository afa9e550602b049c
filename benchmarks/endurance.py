"""``make bench-requests``: many requests to a served model across a new version, a dead worker and a dead server.

    python benchmarks/endurance.py [MODEL] [--precision fp16] [--out build] [--requests 10000] [--clients 8]

A supervised tritonserver looks for new versions. After a quarter of the requests version 2 is written, which answers
the negative of version 1, so that nobody mistakes one for the other; after half of them, and when version 2 answers,
the worker of the python backend is killed with SIGKILL, after three quarters the server. Clients ask again. Every
answer must come, and be the bare runtime's for its own image by the version that it names.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from exporter import jsonfile, runtime, serving, supervision, triton
from exporter.client import Client
from exporter.errors import ExporterError
from exporter.files import sha256_file, write_json
from exporter.passport import MANIFEST
from exporter.types import safe_name

IMAGES = 64
TOLERANCE = 1e-4
"""Of the largest value: one runtime on both sides, batches of other sizes."""


@dataclass
class Tally:
    """``longest`` is the longest that a client waited for an answer, in seconds, with all its retries."""

    asked: int = 0
    lost: int = 0
    wrong: int = 0
    retried: int = 0
    longest: float = 0.0
    versions: dict[int, int] = field(default_factory=dict)
    restarts: list[str] = field(default_factory=list)


def negated(bundle: Path, target: Path) -> Path:
    """A copy of a bundle whose graph answers the negative of every output, with a manifest that says so."""
    shutil.copytree(bundle, target)
    path = target / "model.onnx"
    model = onnx.load(path)
    for output in model.graph.output:
        inner = f"{output.name}/positive"
        for node in model.graph.node:
            node.output[:] = [inner if name == output.name else name for name in node.output]
        model.graph.node.append(helper.make_node("Neg", [inner], [output.name], f"{output.name}/Neg"))
    path.unlink()  # it may be a hard link to the original
    onnx.save(model, path)
    manifest = jsonfile.read(target / "manifest.json", MANIFEST)
    manifest["onnx"] |= {"sha256": sha256_file(path), "bytes": path.stat().st_size}
    write_json(target / "manifest.json", manifest)
    return target


@dataclass
class Trial:
    """Clients that ask until all requests are answered and all events have happened, each where it is due."""

    images: np.ndarray
    right: np.ndarray
    requests: int
    events: list[tuple[int, Callable[[], bool], str, Callable[[], object]]]
    """Requests after which it is due, whether the one before is over, what it is, what is done."""

    note: Callable[[str], None]
    tally: Tally = field(default_factory=Tally)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _turn: itertools.count = field(default_factory=itertools.count)

    def work(self, client: Client) -> None:
        """One client's thread."""
        while self.tally.asked < self.requests or self.events:
            self._ask(client, next(self._turn) % len(self.images))
            with self._lock:
                due = self.events and self.tally.asked >= self.events[0][0] and self.events[0][1]()
                event = self.events.pop(0) if due else None
            if event:
                self.note(f"request {self.tally.asked}: {event[2]}")
                event[3]()
        with self._lock:
            self.tally.retried += client.retried

    def _ask(self, client: Client, which: int) -> None:
        began = time.perf_counter()
        try:
            version, found = client.answer(self.images[which : which + 1])
        except Exception:  # whatever it is, the answer did not come
            version, found = 0, None
        took = time.perf_counter() - began
        expected = self.right[which] * (1 if version == 1 else -1)
        with self._lock:
            self.tally.asked += 1
            self.tally.longest = max(self.tally.longest, took)
            if found is None:
                self.tally.lost += 1
                return
            self.tally.versions[version] = self.tally.versions.get(version, 0) + 1
            self.tally.wrong += not np.abs(found[0] - expected).max() <= TOLERANCE * np.abs(self.right).max()


def run(bundle: Path, scratch: Path, requests: int, clients: int, note: Callable[[str], None] = print) -> Tally:
    """At least ``requests`` single images from ``clients`` threads, with the three events between them."""
    repository = scratch / "models"
    made = triton.write(bundle, repository, pictures=False)
    other = negated(bundle, scratch / "negated")
    model = runtime.load(bundle)
    spec, output = model.bundle.manifest["inputs"][0], model.bundle.manifest["outputs"][0]["name"]
    images = np.random.default_rng(0).standard_normal((IMAGES, *spec["shape"][1:]), np.float32)
    right = np.concatenate([model.infer(image[None])[output] for image in images]).astype(np.float64)
    _distinct(right)
    http, port = serving.free_ports(2)
    with supervision.kept(repository, http, port, control="poll", log=scratch / "log", note=note) as server:
        trial = Trial(images, right, requests, [], note)
        trial.events += [
            (requests // 4, lambda: True, "a new version is written",
             lambda: triton.write(other, repository, pictures=False)),
            (requests // 2, lambda: 2 in trial.tally.versions, "the worker is killed", lambda: _kill_workers(server)),
            (3 * requests // 4, lambda: server.recovered == 1, "the server is killed",
             lambda: server.server.process.kill()),
            (requests, lambda: server.recovered == 2, "the server is back", lambda: None),
        ]  # fmt: skip
        with contextlib.ExitStack() as stack:
            asking = [stack.enter_context(Client(port, made["model"], spec["name"], output)) for _ in range(clients)]
            threads = [threading.Thread(target=trial.work, args=(client,)) for client in asking]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        trial.tally.restarts = list(server.restarts)
    return trial.tally


def _kill_workers(server: supervision.Kept) -> None:
    for pid in server.server.workers():
        os.kill(pid, signal.SIGKILL)


def _distinct(answers: np.ndarray) -> None:
    """Another image's answer must not pass for this one's."""
    flat = answers.reshape(len(answers), -1)
    apart = np.abs(flat[:, None] - flat[None]).max(-1)
    np.fill_diagonal(apart, np.inf)
    assert apart.min() > 10 * TOLERANCE * np.abs(flat).max(), "the images' answers are too much alike"


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description="requests across a new version, a dead worker and a dead server")
    parser.add_argument("model", nargs="?", default="vit_digits")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--out", default="build")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    asked = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(asked.out) / safe_name(asked.model) / asked.precision
        began = time.perf_counter()
        tally = run(folder, Path(scratch), asked.requests, asked.clients)
        seconds = time.perf_counter() - began
    for name in ("asked", "lost", "wrong", "retried"):
        print(f"{name:<18} {getattr(tally, name)}")
    print(f"{'by version':<18} {', '.join(f'{v}: {n}' for v, n in sorted(tally.versions.items()))}")
    print(f"{'longest answer':<18} {tally.longest:.1f} s of {seconds:.0f} s")
    print(f"{'restarts':<18} {'; '.join(tally.restarts)}")
    return int(tally.lost + tally.wrong > 0)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ExporterError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
