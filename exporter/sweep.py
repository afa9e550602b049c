"""``make sweep``: many engines from one file; a cell that fails stops no other, a cell that is done is not done again.

Every cell has a folder of its own, ``OUT/sweep/<file>/<cell>/``, with its bundle and ``cell.json``; the cache of stages
is one for all of them (a link), so a model is traced and rewritten once. Builds run ``jobs`` at a time; what is timed
runs afterwards, alone.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

from exporter import SCHEMA, __version__, choice, machine, registry
from exporter.errors import UsageError
from exporter.files import sha256_text, unwritable, write_json
from exporter.store import key_of
from exporter.sweepfile import Cell, Sweep, words

RECORD = "cell.json"
STATUS = {0: "passed", 1: "failed", 2: "refused"}


class Runner:
    """Runs commands of this tool and ends them when it is told to."""

    def __init__(self):
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen] = set()
        self.stopped = False

    def run(self, command: list[str]) -> tuple[int, str, str]:
        """(exit code, standard output, standard error) of ``python -m exporter`` with these words."""
        with self._lock:
            if self.stopped:
                return 130, "", "stopped"
            child = subprocess.Popen(
                [sys.executable, "-m", "exporter", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            self._running.add(child)
        try:
            out, err = child.communicate()
        finally:
            with self._lock:
                self._running.discard(child)
        return child.returncode, out, err

    def stop(self) -> None:
        """End what runs; nothing starts any more."""
        with self._lock:
            self.stopped = True
            for child in self._running:
                child.terminate()


def sweep(asked: Sweep, out: Path, jobs: int, note: Callable[[str], None], command: str = "", run=None) -> dict:
    """Bring every cell up to date; what ``sweep.json`` holds. ``run`` stands for :meth:`Runner.run` in tests."""
    home = out / "sweep" / asked.name
    try:
        home.mkdir(parents=True, exist_ok=True)
        (out / ".cache").mkdir(exist_ok=True)
    except OSError as error:
        raise unwritable(home, error) from None
    runner = Runner()
    run = run or runner.run
    code = _code()
    before = {cell: _read(home / cell.name / RECORD) for cell in asked.cells}
    keys = {cell: _key(cell, asked, code) for cell in asked.cells}
    others = {
        cell.name: record["tool"] for cell, record in before.items() if record and record.get("tool") != __version__
    }
    for name, version in others.items():
        note(f"{name}: its result is of vit-exporter {version}, this is {__version__}: not used, made again")
    done = {c: r for c, r in before.items() if r and r.get("key") == keys[c] and r.get("status") == "passed"}
    todo = [cell for cell in asked.cells if cell not in done]
    note(f"{len(asked.cells)} cells, {len(done)} done before, {len(todo)} to do")
    made: dict[Cell, dict] = {}

    def build(cell: Cell) -> None:
        steps = [step for step in asked.steps if step != "bench"]
        made[cell] = _run(cell, steps, asked, home, keys[cell], run)
        if not runner.stopped:
            note(f"{cell.name}: {made[cell]['status']}, {made[cell]['seconds']:.0f} s{_reason(made[cell])}")

    try:
        with ThreadPoolExecutor(jobs, "cell") as pool:
            try:
                list(pool.map(build, todo))
            except BaseException:
                runner.stop()
                pool.shutdown(cancel_futures=True)
                raise
        if "bench" in asked.steps:
            for cell in todo:
                if made[cell]["status"] == "passed":
                    made[cell] = _run(cell, ["bench"], asked, home, keys[cell], run, made[cell])
                    note(f"{cell.name}: timed{_reason(made[cell])}")
    except BaseException:
        runner.stop()
        raise
    found = {
        "schema": SCHEMA,
        "kind": "sweep",
        "tool": __version__,
        "name": asked.name,
        "steps": list(asked.steps),
        "settings": asked.settings,
        "cells": [made.get(cell) or done[cell] for cell in asked.cells],
        "reused": [cell.name for cell in done],
        "of_other_versions": others,
        "machine": machine.describe(),
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
    }
    found["written"] = str(home / "sweep.json")
    write_json(home / "sweep.json", found)
    return found


def _run(cell: Cell, steps: list[str], asked: Sweep, home: Path, key: str, run, before: dict | None = None) -> dict:
    """The cell's record after these steps; the first one that does not pass ends it. ``before`` is what it had."""
    folder = home / cell.name
    record = before or {
        "schema": SCHEMA,
        "tool": __version__,
        "key": key,
        "cell": cell.name,
        **{k: getattr(cell, k) for k in ("model", "precision", "batch", "target")},
        "folder": str(folder / registry.recipe(cell.model).folder / cell.precision),
        "status": "passed",
        "steps": {},
        "seconds": 0.0,
    }
    try:
        folder.mkdir(exist_ok=True)
        if not (folder / ".cache").is_symlink():
            (folder / ".cache").symlink_to(Path("../../../.cache"), target_is_directory=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    for step in steps:
        started = time.perf_counter()
        command = list(words(cell, step, asked.settings, folder))
        code, out, err = run(command)
        seconds = round(time.perf_counter() - started, 2)
        status = STATUS.get(code, "interrupted" if code in (130, -2, -15) else "crashed")
        outcome = _outcome(step, code, out, err)
        if status == "passed" and "figures" not in outcome:
            status = "crashed"
        result = {"status": status, "exit": code, "seconds": seconds, "command": " ".join(command)}
        record["steps"][step] = result | outcome
        record["seconds"] = round(record["seconds"] + seconds, 2)
        if status != "passed":
            record["status"] = status
            break
    write_json(folder / RECORD, record)
    return record


def _outcome(step: str, code: int, out: str, err: str) -> dict:
    """The step's figures for the table, or why there are none."""
    try:
        data = json.loads(out)
    except ValueError:
        return {"why": (err.strip().splitlines() or ["no output"])[-1][:300]}
    if "error" in data:
        error = data["error"]
        return {"why": f"{error['what']}: {error.get('found', '')}"[:300], "error": error}
    figures = FIGURES[step](data)
    if code:
        why = next(iter(data.get("failures", [])), {})
        return {"figures": figures, "why": f"{why.get('what', 'a check failed')}: {why.get('found', '')}"[:300]}
    return {"figures": figures}


def _engine(data: dict) -> dict:
    first = next(iter(data["kernels"].values()))
    cosines = [float(r["cosine"]) for r in data["parity"].values() if "cosine" in r]
    return {
        "engine_bytes": data["engine"]["bytes"],
        "attention_due": first["fused_attention"] + len(data["unfused_attention"]),
        **{k: first[k] for k in ("count", "fused_attention", "bytes_moved", "flops", "roofline_us", "chip", "batch")},
        "cosine": min(cosines, default=None),
        "weights": data["weights"]["kind"],
    }


def _roofline(data: dict) -> dict:
    keys = ("floor_us", "launched_us", "images_per_second", "images_per_dollar")
    return {name: {k: c[k] for k in keys if k in c} for name, c in data["chips"].items() if "refused" not in c}


def _bench(data: dict) -> dict:
    row = data["batches"][0]
    ours = row["contenders"][row["ours"]]
    return {
        "backend": data["backend"],
        "batch": row["batch"],
        "p50_ms": ours["milliseconds"]["latency"]["p50"],
        "images_per_second": ours["images_per_second"],
        "ratios": {name: r["median"] for name, r in row["ratios"].items()},
        "noisy": row["noisy"],
    }


FIGURES = {"engine": _engine, "roofline": _roofline, "bench": _bench}


def _reason(record: dict) -> str:
    why = next((s["why"] for s in record["steps"].values() if "why" in s), "")
    return f" ({why})" if why else ""


def _key(cell: Cell, asked: Sweep, code: str) -> str:
    return key_of({"cell": vars(cell), "steps": asked.steps, "settings": asked.settings, "code": code})


def current(cell: Cell, asked: Sweep, home: Path) -> dict | None:
    """What ``home`` holds of a cell, if it was made by the sources as they are now."""
    record = _read(home / cell.name / RECORD)
    return record if record and record["key"] == _key(cell, asked, _code()) else None


@functools.cache
def _code() -> str:
    """One hash over the tool's sources and its table of forms: a cell made by others is made again, its stages mostly
    from the cache."""
    root = Path(__file__).parents[1]
    files = sorted(p for part in ("exporter", "recipes", "calibration") for p in (root / part).rglob("*.py"))
    return sha256_text(__version__, *(p.read_text() for p in (*files, choice.TABLE) if p.exists()))


def _read(path: Path) -> dict | None:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"tool", "key", "status", "steps"} <= found.keys() else None


def parse_jobs(text: str | int) -> int:
    """How many cells are built at a time."""
    try:
        jobs = int(text)
    except ValueError:
        jobs = 0
    if not 1 <= jobs <= 64:
        raise UsageError("JOBS is no number of cells", found=str(text), expected="1 to 64", next="JOBS=2")
    return jobs
