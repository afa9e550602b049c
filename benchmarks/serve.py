"""``make bench-serve``: a bundle behind the real tritonserver on loopback, beside the same bundle in this process.

    python benchmarks/serve.py MODEL [--precision fp16] [--out build] [--allow-random] [--rounds 12] [--seconds 1.5]

At concurrency N, N clients send one image each over gRPC as fast as answers come; the bare runtime
(``exporter.runtime``) runs batches of N: in turns, slice by slice, who begins changes. The ratio of a pair of slices is
served over bare images a second; a table has their median and middle half, the percentiles of what a client and what a
caller of the runtime waited, and the mean batch that the server made. Not a timed test: these are this machine's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import load
import numpy as np

from exporter import latency, machine, runtime, serving, triton
from exporter.client import Client
from exporter.errors import ExporterError
from exporter.types import safe_name

CONCURRENCY = (1, 2, 4, 8, 16)
OVERHEAD = 0.15
"""What the server may cost at concurrency 1, as a share of the bare runtime's time."""

COLUMNS = ("clients", "bare images/s", "served images/s", "served / bare", "middle half", "bare p50, p90, p99 ms",
           "served p50, p90, p99 ms", "mean batch", "bare CPU ms", "served CPU ms")  # fmt: skip


@dataclass
class Cell:
    """One concurrency: images a second of each slice, seconds of each query, requests and runs that the server saw.

    ``bare_cpu`` and ``served_cpu`` are seconds of all cores over ``bare_images`` and ``requests``; served are client,
    server and worker. What others do to this machine changes them less than it changes the times.
    """

    bare: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)
    bare_latencies: list[float] = field(default_factory=list)
    served_latencies: list[float] = field(default_factory=list)
    requests: int = 0
    runs: int = 0
    bare_images: int = 0
    bare_cpu: float = 0.0
    served_cpu: float = 0.0

    @property
    def ratio(self) -> latency.Ratio:
        return latency.ratio(self.served, self.bare)


def main(words: list[str]) -> int:
    asked = _arguments(words)
    folder = Path(asked.out) / safe_name(asked.model) / asked.precision
    here = machine.describe()
    print(f"{here['cpu']}, {here['cores']} cores, {here['system']}, Python {here['python']}; {serving.WHEEL}")
    with tempfile.TemporaryDirectory() as scratch, machine.Watch() as watch:
        cells = measure(folder, Path(scratch), asked)
    show(cells)
    for why in machine.disturbances(watch.found):
        print(f"NOISY: {why}")
    alone, full = cells[CONCURRENCY[0]].ratio, cells[CONCURRENCY[-1]].ratio
    print(f"overhead at 1 client {1 / alone.median - 1:+.1%} (at most {OVERHEAD:.0%})")
    print(
        f"{CONCURRENCY[-1]} clients: {full.median:.2f} times the bare runtime's batch of {CONCURRENCY[-1]} (at least 1)"
    )
    return 0


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="a served bundle beside the bare runtime")
    parser.add_argument("model")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--out", default="build")
    parser.add_argument("--allow-random", action="store_true")
    parser.add_argument("--rounds", type=int, default=12, help="pairs of slices for each concurrency")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a slice, at least")
    return parser.parse_args(words)


def measure(folder: Path, scratch: Path, asked: argparse.Namespace) -> dict[int, Cell]:
    """Every concurrency's slices, round by round, so that what disturbs one disturbs the others, too."""
    made = triton.write(folder, scratch / "models", allow_random=asked.allow_random, pictures=False)
    model = runtime.load(folder)
    print(f"{made['model']}, {model.runs}; {asked.rounds} rounds, slices of {asked.seconds:g} s\n", flush=True)
    spec = model.bundle.manifest["inputs"][0]
    image = np.random.default_rng(0).standard_normal((1, *spec["shape"][1:]), np.float32)
    http, port = serving.free_ports(2)
    cells = {count: Cell() for count in CONCURRENCY}
    with serving.started(scratch / "models", http, port, log=scratch / "log") as server:
        output = model.bundle.manifest["outputs"][0]["name"]
        clients = [Client(port, made["model"], spec["name"], output) for _ in range(max(CONCURRENCY))]
        feed = image.astype(spec["dtype"])
        _same(clients[0].infer(feed), model.infer(image)[output])
        for turn in range(asked.rounds):
            for count, cell in cells.items():
                slices = [lambda c=count, to=cell: _bare(model, image, c, to, asked.seconds),
                          lambda c=count, to=cell: _served(clients[:c], feed, to, asked.seconds, server)]  # fmt: skip
                for run in slices if turn % 2 else reversed(slices):
                    run()
        for client in clients:
            client.close()
    return cells


def _same(found: np.ndarray, expected: np.ndarray) -> None:
    """The server's answer is the runtime's, or a comparison of their times means nothing."""
    np.testing.assert_allclose(found.astype(np.float32), expected, atol=1e-5 * float(np.abs(expected).max()))


def _bare(model: runtime.Model, image: np.ndarray, count: int, to: Cell, seconds: float) -> None:
    rows = np.repeat(image, count, 0)
    began = time.process_time()
    found = load.closed([lambda: model.infer(rows)], seconds, 1)
    to.bare_cpu += time.process_time() - began
    to.bare_images += count * (len(found.latencies) + 1)
    to.bare.append(found.per_second * count)
    to.bare_latencies += found.latencies


def _served(clients: list[Client], feed: np.ndarray, to: Cell, seconds: float, server: serving.Server) -> None:
    before, began = clients[0].statistics(), time.process_time() + server.cpu_seconds()
    found = load.closed([lambda c=client: c.infer(feed) for client in clients], seconds, 3)
    to.served_cpu += time.process_time() + server.cpu_seconds() - began
    after = clients[0].statistics()
    to.served.append(found.per_second)
    to.served_latencies += found.latencies
    to.requests += after.inference_count - before.inference_count
    to.runs += after.execution_count - before.execution_count


def show(cells: dict[int, Cell]) -> None:
    for row in (COLUMNS, ("---",) * len(COLUMNS)):
        print("| " + " | ".join(row) + " |")
    for count, cell in cells.items():
        ratio, rates = cell.ratio, [latency.median(sorted(each)) for each in (cell.bare, cell.served)]
        waits = []
        for each in (cell.bare_latencies, cell.served_latencies):
            summary = latency.summary(each)
            waits.append(f"{summary.p50:.1f}, {summary.p90:.1f}, {summary.p99:.1f}")
        half = f"{ratio.low:.2f}-{ratio.high:.2f}"
        row = (str(count), *(f"{rate:.1f}" for rate in rates), f"{ratio.median:.2f}", half, *waits,
               f"{cell.requests / cell.runs:.1f}", f"{1e3 * cell.bare_cpu / cell.bare_images:.1f}",
               f"{1e3 * cell.served_cpu / cell.requests:.1f}")  # fmt: skip
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ExporterError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
