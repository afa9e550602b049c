"""``make bench-faults``: a process that fills a cache and publishes bundles is killed at random instants.

    python benchmarks/faults.py [KILLS] [SEED]

The victim is the real store and the real publication with small files instead of a compiler's, so that most instants
lie inside of them. After every SIGKILL the bundle must be whole (every file as its manifest says, of one generation),
not older than the last one that the victim had reported, no entry that is found may be broken, and the next process
must leave no temporary file.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from exporter import bundle
from exporter.files import place, publish_folder, sha256_file, write_json
from exporter.store import Store

FILES = {"model.onnx": 60_000, "model.engine": 90_000}
LONGEST = 0.25
"""Seconds that a victim lives at most after its first bundle."""


@dataclass
class Tally:
    """What was seen: ``survived`` kills had neither a lost or torn bundle, nor a broken entry, nor a left file."""

    kills: int = 0
    survived: int = 0
    bundles_torn: int = 0
    bundles_lost: int = 0
    entries_broken: int = 0
    files_left: int = 0


def victim(out: Path) -> None:
    """Build and publish, generation after generation, until killed; each finished one is a line of output."""
    home = out / "m"
    home.mkdir(parents=True, exist_ok=True)
    store = Store(out / ".cache")
    store.join()
    bundle.sweep(home)
    current = _manifest(home / "fp16")
    generation = current["generation"] + 1 if current else 0
    while True:
        content = generation.to_bytes(4, "big")

        def write(folder: Path, content=content) -> tuple[dict, dict]:
            for name, size in FILES.items():
                (folder / name).write_bytes(content * (size // 4))
            return {}, {}

        entry = store.build("stage", f"{generation % 8}", {}, write)
        made = home / f".fp16.{generation:08x}.tmp"
        made.mkdir()
        for name in FILES:
            place(entry.path(name), made / name)
        hashes = {name: entry.files[name]["sha256"] for name in FILES}
        write_json(made / "manifest.json", {"generation": generation, "files": hashes})
        publish_folder(made, home / "fp16")
        print(generation, flush=True)
        generation += 1


def _manifest(folder: Path) -> dict | None:
    try:
        return json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        return None


def run(kills: int, seed: int = 0) -> Tally:
    """Kill ``kills`` victims, one after the other, in one output folder."""
    rng, tally, last = random.Random(seed), Tally(), -1
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        for _ in range(kills):
            child = subprocess.Popen(
                [sys.executable, __file__, "--victim", str(out)], stdout=subprocess.PIPE, text=True
            )
            first = child.stdout.readline()
            time.sleep(rng.uniform(0, LONGEST))
            child.kill()
            said = [int(line) for line in (first + child.communicate()[0]).splitlines(keepends=True) if "\n" in line]
            last = max([last, *said])
            found = _judge(out, last)
            tally.kills += 1
            tally.survived += not any(found.values())
            for name, count in found.items():
                setattr(tally, name, getattr(tally, name) + count)
    return tally


def _judge(out: Path, last: int) -> dict[str, int]:
    """What is wrong after a kill, by the field of the tally."""
    home, said = out / "m", []
    store = Store(out / ".cache", said.append)
    store.join()
    bundle.sweep(home)
    there = _manifest(home / "fp16")
    torn = there is None or any(sha256_file(home / "fp16" / n) != digest for n, digest in there["files"].items())
    for key in (out / ".cache" / "stage").iterdir():
        store.find("stage", key.name)
    left = [p for p in (*home.iterdir(), *(out / ".cache").glob("tmp/*")) if p.name != "fp16"]
    return {
        "bundles_torn": int(torn),
        "bundles_lost": int(there is not None and there["generation"] < last),
        "entries_broken": len(said),
        "files_left": len(left),
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--victim"]:
        victim(Path(sys.argv[2]))
    tally = run(int(sys.argv[1]) if len(sys.argv) > 1 else 200, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    for name, count in asdict(tally).items():
        print(f"{name:<16} {count}")
    sys.exit(tally.survived != tally.kills)
