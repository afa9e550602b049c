"""``make zoo``, its table: every recipe at its full size, what its kernels were as exported and are now, its parity.

    python benchmarks/zoo.py [OUT]

Reads the cells that ``make sweep SWEEP=benchmarks/zoo.yaml`` left in ``OUT/sweep/zoo``, compiles each model's plain
export (FP16, sm80, kept in ``plain.json`` beside them) and writes the table between the marks in README.md. A cell that
was not built is *not run*, one that failed says so. A model of which nothing was built keeps the line that the table
has of it: each line ends with a commit whose sources built it.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from exporter import casting, emitted, kernels, pipeline, registry, request, sweep, sweepfile
from exporter.files import write_atomically, write_json
from exporter.progress import Progress

ROOT = Path(__file__).parents[1]
SWEEP = ROOT / "benchmarks" / "zoo.yaml"
MARKS = "<!-- zoo: make zoo writes this table -->\n", "<!-- end of zoo -->\n"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
COLUMNS = ("model", "M", "GFLOPs", "kernels plain -> ours", "fused", "floor us", *PRECISIONS, "int8 gain", "commit")


def main(out: str = "build") -> None:
    home = Path(out).absolute() / "sweep" / "zoo"
    asked = sweepfile.read(SWEEP)
    found = {(cell.model, cell.precision): _whole(sweep.current(cell, asked, home)) for cell in asked.cells}
    models = list(dict.fromkeys(cell.model for cell in asked.cells))
    plain = _plain(
        [m for m in models if _passed(found[m, "fp16"])], asked.cells[0].batch, Path(out), home / "plain.json"
    )
    readme, here = ROOT / "README.md", _commit()
    rows = kept(readme.read_text())
    for model in models:
        records = {p: found[model, p] for p in PRECISIONS}
        if any(records.values()) or model not in rows:
            rows[model] = row(model, records, plain.get(model), here)
    table = [rows[model] for model in models]
    lines = ["| " + " | ".join(cells) + " |" for cells in (COLUMNS, ("---",) * len(COLUMNS), *table)]
    lines += ["", summary(table)]
    write(readme, "\n".join(lines) + "\n")
    print("\n".join(lines))


def kept(text: str) -> dict[str, tuple[str, ...]]:
    """The lines of the table that a README has, by model; none where its columns are others."""
    lines = [line for line in text.partition(MARKS[0])[2].partition(MARKS[1])[0].splitlines() if line.startswith("|")]
    cells = [tuple(cell.strip() for cell in line.strip().strip("|").split("|")) for line in lines]
    whole = [line for line in cells[2:] if len(line) == len(COLUMNS)]
    return {line[0]: line for line in whole} if cells and cells[0] == COLUMNS else {}


def summary(rows: list[tuple[str, ...]]) -> str:
    """What became of all cells, in one sentence."""
    first = COLUMNS.index(PRECISIONS[0])
    cells = [cell for line in rows for cell in line[first : first + len(PRECISIONS)]]
    passed = sum(bool(re.match(r"\d", cell)) for cell in cells)
    absent = cells.count("not run")
    return f"{passed} of {len(cells)} cells passed, {absent} not run, {len(cells) - passed - absent} failed or refused."


def row(model: str, records: dict[str, dict | None], plain: dict | None, commit: str) -> tuple[str, ...]:
    """One line of the table, ``records`` by precision; None where a cell was not built."""
    parameters, gflops = registry.recipe(model).published
    made = records["fp16"] if _passed(records["fp16"]) else None
    figures = made["steps"]["engine"]["figures"] if made else {}
    before = f"{plain['kernels']} -> " if plain else ""
    return (
        model, f"{parameters:.1f}", f"{gflops:.1f}", f"{before}{figures['count']}" if made else "",
        f"{figures['fused_attention']}/{figures['attention_due']}" if made else "",
        f"{figures['roofline_us']:.0f}" if made else "", *(_parity(records[p]) for p in PRECISIONS),
        _gain(records["int8"]), commit if any(records.values()) else "",
    )  # fmt: skip


def _parity(record: dict | None) -> str:
    if record is None:
        return "not run"
    if not _passed(record):
        why = next((step["why"] for step in record["steps"].values() if "why" in step), "")
        return f"**{record['status']}** {_reason(why)}".strip()
    rungs = _manifest(record)["parity"]
    ladder = ("torch/typed",) if "torch/typed" in rungs else ("torch/raw", "raw/rewritten")  # FP32 has no typed rung
    return f"{max(rungs[name]['relative_max'] for name in ladder):.1e}"


def _reason(why: str) -> str:
    """An error's beginning, without the names of model and stage in front of it."""
    parts = why.replace("|", "/").split(": ")
    told = itertools.dropwhile(lambda part: " " not in part.strip(), parts)
    return textwrap.shorten(": ".join(told) or why, 60, placeholder=" ...")


def _gain(record: dict | None) -> str:
    against = _manifest(record).get("against_base") if _passed(record) else None
    return f"{against['gain']:.2f}x" if against else ""


def _manifest(record: dict) -> dict:
    return json.loads((Path(record["folder"]) / "manifest.json").read_text())


def _whole(record: dict | None) -> dict | None:
    """A record that is a result: what was interrupted is none."""
    return None if record is None or record["status"] == "interrupted" else record


def _passed(record: dict | None) -> bool:
    return record is not None and record["status"] == "passed"


def _commit() -> str:
    """The commit that is checked out, with a + where sources are changed or new; unknown outside of a checkout."""
    changed = ("status", "--porcelain", "--", "exporter", "recipes", "calibration")
    try:
        told = [
            subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (("rev-parse", "--short=7", "HEAD"), changed)
        ]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told[0] + ("+" if told[1] else "")


def _plain(models: list[str], batch: str, out: Path, file: Path) -> dict[str, dict]:
    """What the compiler makes of each model's plain export, by name; what ``file`` holds of the same graph is kept."""
    known = json.loads(file.read_text()) if file.exists() else {}
    for model in models:
        asked = request.parse(model, "fp16", batch=batch, target="sm80", weights="random", out=str(out))
        build = pipeline.prepare(asked, Progress(quiet=True), pipeline.CANONICAL)
        key = build.entries["trace"].key
        if known.get(model, {}).get("key") == key:
            continue
        raw = casting.cast(build.model("trace", "raw.onnx"), asked.precision).model
        seen = emitted.weigh(raw, asked)
        totals = kernels.totals(seen.engine, seen.sized, emitted.softmaxes(raw))
        known[model] = {"key": key, "kernels": totals.count, "fused": totals.fused_attention}
        print(f"{model}: {totals.count} kernels as exported", file=sys.stderr, flush=True)
        write_json(file, known)
    return known


def write(readme: Path, table: str) -> None:
    """Put ``table`` between the marks."""
    text = readme.read_text()
    between = re.compile(re.escape(MARKS[0]) + ".*?" + re.escape(MARKS[1]), re.DOTALL)
    assert between.search(text), f"{readme} has no {MARKS[0].strip()}"
    write_atomically(readme, between.sub(lambda _: MARKS[0] + "\n" + table + "\n" + MARKS[1], text))


if __name__ == "__main__":
    main(*sys.argv[1:])
