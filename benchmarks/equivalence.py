"""``make bench-equivalence``: random networks through every rewrite and precision, beside the networks as they were.

    python benchmarks/equivalence.py [COUNT] [FIRST SEED]

The networks are those of ``tests/networks.py``, the comparison that of ``tests/equivalence.py``. A seed that fails is
printed with what is wrong; those that ever failed are ``FAILED`` in ``tests/test_equivalence.py``.
"""

from __future__ import annotations

import collections
import multiprocessing
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from equivalence import examine
from rich.progress import track


def run(count: int, first: int, workers: int) -> int:
    """Examine ``count`` networks; returns how many had a fault."""
    started, failed = time.monotonic(), 0
    matches, errors = collections.Counter(), collections.defaultdict(list)
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        seeds = range(first, first + count)
        for seen in track(pool.imap_unordered(examine, seeds, chunksize=8), "networks", total=count):
            matches.update(seen.matches)
            for precision, error in seen.errors.items():
                errors[precision].append(error)
            if seen.faults:
                failed += 1
                print(f"seed {seen.seed}, {seen.form}: {'; '.join(seen.faults)}", flush=True)
    print("\n| rewrite | matches |\n| --- | --- |")
    for name, number in matches.most_common():
        print(f"| {name} | {number} |")
    print("\n| precision | graphs | median error | 99 % | largest |\n| --- | --- | --- | --- | --- |")
    for name, found in errors.items():
        print(f"| {name} | {len(found)} | " + " | ".join(f"{q:.1e}" for q in np.quantile(found, (0.5, 0.99, 1))) + " |")
    print(f"\n{count} networks from seed {first}, {failed} with a fault, {time.monotonic() - started:.0f} s")
    return failed


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(run(*(numbers + [10_000, 0][len(numbers) :]), os.cpu_count() or 1) > 0)
