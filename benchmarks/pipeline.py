"""What a build costs: cold, the second precision, an unchanged repeat; each one a process of its own.

``python benchmarks/pipeline.py [model]`` prints seconds, the share of the cold build, and peak memory. Not a timed
test: the figures are this machine's, side by side in one run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time

BUDGETS = {"cold": "90 s, 6 GiB", "second precision": "60 % of cold", "unchanged repeat": "3 s"}


def build(model: str, out: str, precision: str) -> tuple[float, dict]:
    """(seconds, manifest) of one build for sm80 as a user runs it."""
    command = [
        sys.executable,
        "-m",
        "exporter",
        "engine",
        model,
        "--precision",
        precision,
        "--target",
        "sm80",
        "--out",
        out,
        "--weights",
        "random",
        "--json",
    ]
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return time.perf_counter() - started, json.loads(done.stdout)


def main(model: str = "swin_b") -> None:
    with tempfile.TemporaryDirectory() as out:
        cold, manifest = build(model, out, "fp16")
        rows = [("cold", cold, manifest["peak_rss_bytes"])]
        seconds, second = build(model, out, "bf16")
        rows.append(("second precision", seconds, second["peak_rss_bytes"]))
        seconds, _ = build(model, out, "fp16")
        rows.append(("unchanged repeat", seconds, None))
    print(
        f"\n{model}, fp16 then bf16, sm80, batch {':'.join(str(manifest['batch'][k]) for k in ('min', 'opt', 'max'))}"
    )
    for name, seconds, peak in rows:
        memory = f"{peak / 2**30:5.1f} GiB" if peak else " " * 9
        print(f"  {name:<18} {seconds:6.1f} s  {seconds / cold:6.1%}  {memory}   wanted: at most {BUDGETS[name]}")
    print("  of the cold build: " + ", ".join(f"{k} {v:.0f} s" for k, v in manifest["seconds"].items() if v >= 0.5))


if __name__ == "__main__":
    main(*sys.argv[1:])
