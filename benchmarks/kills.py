"""``make bench-kills``: whole builds of a small model, each killed (SIGKILL, all its processes) at a random instant.

    python benchmarks/kills.py [KILLS] [SEED]

Every build asks for another batch or precision, so that most of it is work and a bundle is replaced. After each kill
the bundles that are there must be whole (files of the manifest's hashes) and none may be gone that was there before;
no entry of the cache that is found may be broken. The last build must pass and leave no temporary file.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.progress import track

from exporter import passport
from exporter.errors import UsageError
from exporter.store import Store

MODEL = "vit_digits"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


@dataclass
class Tally:
    """``ended``: builds that were done before their kill came. ``at`` is the time of a whole build in seconds."""

    kills: int = 0
    ended: int = 0
    survived: int = 0
    bundles_torn: int = 0
    bundles_lost: int = 0
    entries_broken: int = 0
    files_left: int = 0
    last_build_failed: int = 0
    at: float = 0.0


def command(out: Path, precision: str, batch: int) -> list[str]:
    words = [
        "engine",
        MODEL,
        "--precision",
        precision,
        "--batch",
        f"1:{batch}:{batch}",
        "--target",
        "sm80",
        "--out",
        str(out),
    ]
    return [sys.executable, "-m", "exporter", *words, "--out", str(out), "--quiet"]


def run(kills: int, seed: int = 0) -> Tally:
    """Kill builds one after the other in one output folder."""
    rng, tally = random.Random(seed), Tally()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        started, there = time.monotonic(), {"int8"}
        subprocess.run(command(out, "int8", 8), check=True, capture_output=True)
        tally.at = round(time.monotonic() - started, 1)
        for _ in track(range(kills), "killed builds"):
            if rng.random() < 0.3:  # a cold start: the heavy stages are killed, too
                shutil.rmtree(out / ".cache")
            words = command(out, rng.choice(PRECISIONS), rng.randrange(2, 12))
            child = subprocess.Popen(
                words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(rng.uniform(0, 0.6 * tally.at))
            tally.ended += child.poll() is not None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            found, there = judge(out, there)
            tally.kills += 1
            tally.survived += not any(found.values())
            for name, count in found.items():
                setattr(tally, name, getattr(tally, name) + count)
        done = subprocess.run(command(out, "int8", 8), capture_output=True, text=True)
        tally.last_build_failed = int(done.returncode != 0)
        tally.files_left = len(left(out))
    return tally


def judge(out: Path, before: set[str]) -> tuple[dict[str, int], set[str]]:
    """(what is wrong after a kill by the field of the tally, the precisions whose bundles are whole)."""
    said: list[str] = []
    store = Store(out / ".cache", said.append)
    home = out / MODEL
    there, torn = set(), 0
    for folder in home.iterdir():
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        try:
            passport.read(folder)
            there.add(folder.name)
        except UsageError:
            torn += 1
    aside = {p.name[1:].split(".")[0] for p in home.glob(".*.tmp.old")}  # the next build puts these back
    for entry in (out / ".cache").glob("*/*/entry.json"):
        store.find(entry.parent.parent.name, entry.parent.name)
    lost = len(before - there - aside)
    return {"bundles_torn": torn, "bundles_lost": lost, "entries_broken": len(said)}, there | aside


def left(out: Path) -> list[Path]:
    """Temporary files."""
    return [*(out / MODEL).glob(".*.tmp*"), *(p for p in (out / ".cache" / "tmp").rglob("*") if p.is_file())]


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    tally = run(*(numbers + [200, 0][len(numbers) :]))
    for name, count in asdict(tally).items():
        print(f"{name:<18} {count}")
    sys.exit(tally.survived != tally.kills or tally.last_build_failed or tally.files_left > 0)
