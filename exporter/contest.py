"""Contenders in turns on one machine, and what came of it: times, ratios, differences, disturbances."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from exporter import latency, machine, subject, timing
from exporter.benched import CPU
from exporter.errors import UsageError
from exporter.subject import Subject
from exporter.timing import Plan, Query

DIFFERENT = 1e-3
"""Share of the largest value by which a contender's FP32 answers may differ before it is said."""


def held(
    what: Subject,
    ours: str,
    names: Sequence[str],
    plan: Plan,
    note: Callable[[str], None] = lambda text: None,
    queries: dict[str, Query] | None = None,
    facts: dict[str, dict] | None = None,
) -> dict:
    """One batch of ``what``: every contender of ``names``, beside ``queries`` that are there already.

    ``ours`` is the one that all others are compared with; ``facts`` says what ``queries`` compute.
    """
    queries, facts, answers = dict(queries or {}), dict(facts or {}), {}
    on_gpu = what.device != "cpu"
    for name in dict.fromkeys(names):
        note(f"setting up {name}")
        module = subject.contender(name)
        if on_gpu and not getattr(module, "ON_GPU", False):
            raise UsageError(
                f"{name} does not run on a GPU here", model=what.recipe.name, found=f"VS={name}",
                expected="torch or torch.compile", next=f"BACKEND={CPU} compares on the CPU",
            )  # fmt: skip
        run = module.make(what)
        answers[name] = run()
        queries[name] = timing.query(run)
        computes = module.COMPUTES.replace("the CPU, FP32", "the GPU") if on_gpu else module.COMPUTES
        facts[name] = {"computes": computes, "versions": subject.versions(module)}
    with machine.Watch() as watch:
        timed = timing.in_turns(queries, plan, note)
    return _row(what.batch, ours, timed, facts, _differences(answers, ours), watch.found)


def _row(batch: int, ours: str, timed: dict, facts: dict, differences: dict, watched: dict) -> dict:
    """One batch's results as JSON."""
    rows = {}
    for name, found in timed.items():
        whole = found.queries.get("host", found.latencies)
        rows[name] = facts[name] | {
            "milliseconds": {q: latency.summary(s).as_dict() for q, s in found.queries.items()},
            **latency.throughput(len(whole), batch, found.seconds),
            "difference": differences.get(name),
        }
    mine = timed[ours].queries.get("host", timed[ours].latencies)
    ratios = {
        name: latency.ratio(found.queries.get("host", found.latencies), mine)
        for name, found in timed.items()
        if name != ours
    }
    disturbed = machine.disturbances(watched)
    spread = latency.ratio(mine, [sorted(mine)[len(mine) // 2]] * len(mine)).spread
    if spread > latency.SPREAD:
        disturbed.append(f"the middle half of the latencies of {ours} is {spread:.0%} of their median wide")
    return {
        "batch": batch,
        "ours": ours,
        "contenders": rows,
        "ratios": {name: r.as_dict() for name, r in ratios.items()},
        "noisy": disturbed,
        "watched": watched,
    }


def _differences(answers: dict[str, list], ours: str) -> dict[str, float]:
    """How far each contender's answers are from ours, as a share of the largest value."""
    import numpy as np

    found = {}
    for name, outputs in answers.items():
        if name != ours and ours in answers:
            pairs = zip(answers[ours], outputs, strict=True)
            found[name] = max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12)) for a, b in pairs)
    return found
