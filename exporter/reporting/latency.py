"""What ``make bench`` measured of a bundle: its percentiles, and how it stood against others, with what spoilt it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exporter import __version__
from exporter.jsonfile import ANY, NUMBER, OPTIONAL, Damaged, read
from exporter.reporting.published import Published
from exporter.reporting.tables import Table, number

TIMES = {"queries": int, "mean": NUMBER, "p50": NUMBER, "p90": NUMBER, "p95": NUMBER, "p99": NUMBER}
CONTENDER = {"computes": str, "milliseconds": {ANY: TIMES}, "images_per_second": NUMBER}
BENCH = {
    "tool": str,
    "backend": str,
    "says": str,
    "engine_sha256": str,
    "batches": [{"batch": int, "contenders": {ANY: CONTENDER}, "noisy": [str],
                 "ratios": {ANY: {"median": NUMBER, "low": NUMBER, "high": NUMBER, "verdict": str}}}],
    f"command{OPTIONAL}": str,
}  # fmt: skip
LATENCY = ("batch", "what", "part", ">p50 ms", ">p90", ">p95", ">p99", ">mean", ">queries", ">images/s")
AGAINST = ("batch", "against", ">times as fast", ">middle half", "so it is")


@dataclass(frozen=True)
class Latency:
    """One result file. ``says`` is what ran on what; ``noisy`` why it is not to be trusted."""

    build: str
    says: str
    times: Table
    against: Table | None
    noisy: tuple[str, ...]
    command: str


def of(bundles: Sequence[Published]) -> tuple[list[Latency], list[str]]:
    """The results of the bundles' own engines, and what is said of files that are not taken."""
    found, left = [], []
    for bundle in bundles:
        for file in sorted(bundle.folder.glob("bench.*.json")):
            try:
                record = read(file, BENCH)
            except Damaged as error:
                left.append(f"{bundle.name}: {error}")
                continue
            if record["tool"] != __version__:
                left.append(f"{bundle.name}: {file.name} is of version {record['tool']}, this is {__version__}")
            elif record["engine_sha256"] != bundle.manifest["engine"]["sha256"]:
                left.append(f"{bundle.name}: {file.name} is of an engine that was here before")
            else:
                found.append(_one(bundle.name, record))
    return found, left


def _one(build: str, record: dict) -> Latency:
    times, against, noisy = [], [], []
    for batch in record["batches"]:
        size = str(batch["batch"])
        for name, row in batch["contenders"].items():
            for part, spent in row["milliseconds"].items():
                figures = [number(spent[key], ".3f") for key in ("p50", "p90", "p95", "p99", "mean")]
                rate = number(row["images_per_second"], ".1f")
                times.append((size, name, part, *figures, str(spent["queries"]), rate))
        for name, ratio in batch["ratios"].items():
            half = f"{number(ratio['low'], '.2f')} to {number(ratio['high'], '.2f')}"
            against.append((size, name, number(ratio["median"], ".2f"), half, ratio["verdict"]))
        noisy += [f"batch {size}: {why}" for why in batch["noisy"]]
    return Latency(
        build,
        record["says"],
        Table(f"{build}: latency", LATENCY, times),
        Table(f"{build}: against others, in turns", AGAINST, against) if against else None,
        tuple(noisy),
        record.get("command") or "",
    )
