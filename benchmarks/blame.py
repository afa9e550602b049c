"""``make bench-blame``: planted faults over many weights: is each named, and nobody where nothing was planted?

    python benchmarks/blame.py [SEEDS] [FIRST SEED] [nothing]

The models and faults are those of ``tests/planted.py``, whose tests take the first seed. Here every seed is other
weights of the small ViT, Swin, Mixer and DETR and other images, in FP32 and FP16. A fault that moves the outputs less
than the precision's tolerance and is not named either is *within*. With ``nothing`` no fault is planted: a third of the
work. Exits with 1 where blame was wrong.
"""

from __future__ import annotations

import collections
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import multiprocessing

import faults
import onnxruntime
import planted
from rich.progress import track

NOTHING = "nothing planted"
RIGHT, WITHIN = "", "within the tolerance"


def examine(case: tuple[str, int, bool]) -> list[tuple[str, str, str]]:
    """(fault, RIGHT, WITHIN or whom blame named instead, family) of all faults of a family's weights of a seed."""
    family, seed, plants = case
    onnxruntime.set_default_logger_severity(4)  # a batch that is baked in is an error, and meant to be
    return [(what, wrong, family) for what, wrong in _examine(planted.subject(family, seed), seed, plants)]


def _examine(of: planted.Subject, seed: int, plants: bool) -> Iterator[tuple[str, str]]:
    exported, images = of.exported(), planted.pixels(of.recipe, seed)

    def guilty(model):
        return of.guilty(model, images)

    def verdict(model, named):
        found, within = of.judged(model, images)
        return RIGHT if named(found) else WITHIN if found is None and within else _words(found)

    for precision in ("fp32", "fp16"):
        graph = exported if precision == "fp32" else planted.typed(exported)
        yield f"{NOTHING}, {precision}", _nobody(guilty(planted.copy(graph)))
        for fault in planted.FAULTS if plants else ():
            if fault.family != of.family:
                continue
            model = planted.canonical(of.recipe, planted.copy(exported), fault.form) if fault.form else exported
            model = planted.typed(model) if precision == "fp16" else planted.copy(model)
            fault.plant(model, fault.at)
            yield f"{fault}, {precision}", verdict(model, fault.named)
    norm = planted.THOUSANDS[of.family][1]
    with planted.a_thousand(of):
        model = planted.typed(of.exported())
        yield f"{NOTHING}, a channel of 1000, fp16", _nobody(guilty(planted.copy(model)))
        if plants:
            faults.decompose_layer_norm(model, norm)
            yield f"{of.family}-decomposed-{norm}, fp16", verdict(model, lambda found: found and found["unit"] == norm)
    with planted.huge_channel(of, images):
        model = of.exported()
        yield f"{NOTHING}, a channel of 100000, fp32", _nobody(guilty(planted.copy(model)))
        yield f"{NOTHING}, a channel of 100000, bf16", _nobody(guilty(planted.typed(model, "bf16")))
        if plants:
            block = planted.CHANNELS[of.family][1]
            wrong = verdict(planted.typed(model), lambda found: found and found["block"] == block)
            yield f"{of.family}-a channel of 100000-{block}, fp16", wrong


def _nobody(found: dict | None) -> str:
    return RIGHT if found is None else _words(found)


def _words(found: dict | None) -> str:
    return f"named {found['unit']}: {found['diagnosis']}" if found else "named nobody"


def run(seeds: range, workers: int, plants: bool = True) -> int:
    """Judge every family with every seed; returns how often blame was wrong."""
    started = time.monotonic()
    cases = [(family, seed, plants) for seed in seeds for family in planted.RECIPES]
    tally: dict[tuple[str, str], collections.Counter] = collections.defaultdict(collections.Counter)
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        found = pool.imap(examine, cases)
        for (_, seed, _), answers in zip(cases, track(found, "weights", total=len(cases)), strict=True):
            for what, mistake, family in answers:
                row = family, NOTHING if what.startswith(NOTHING) else "a fault planted"
                tally[row][mistake if mistake in (RIGHT, WITHIN) else "wrong"] += 1
                if mistake:
                    print(f"seed {seed}, {family}, {what}: {mistake}", flush=True)
    print("\n| family | | judged | right | within | wrong |\n| --- | --- | --- | --- | --- | --- |")
    for (family, what), found in sorted(tally.items()):
        print(f"| {family} | {what} | {found.total()} | {found[RIGHT]} | {found[WITHIN]} | {found['wrong']} |")
    print(f"\n{len(seeds)} weights a family from seed {seeds.start}, {time.monotonic() - started:.0f} s")
    return sum(found["wrong"] for found in tally.values())


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    count, first = numbers + [20, 0][len(numbers) :]
    sys.exit(run(range(first, first + count), os.cpu_count() or 1, "nothing" not in sys.argv) > 0)
