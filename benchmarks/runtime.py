"""The rewritten graph in ONNX Runtime on the CPU, beside what a user would run instead; in turns, one run a model.

``python benchmarks/runtime.py [model ...]`` takes one image, every core that the process may use, random weights, and
prints each contender's times and how many times as long it took as ours, pair by pair, in Markdown; then INT8 against
FP32 of ours (``INT8=0`` leaves it out: it calibrates and compiles first). What cannot run here is named, and why.
Not a timed test: the figures are this machine's.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from exporter import contest, machine, pipeline, request, subject
from exporter.errors import UsageError
from exporter.progress import Progress
from exporter.subject import OURS, Subject
from exporter.timing import Plan

MODELS = ("swin_t", "vit_b")
AGAINST = (
    "torch",
    "torch.compile",
    "onnx-plain",
    "onnxsim",
    "onnxslim",
    "ort-transformers",
    "openvino",
    "openvino-bf16",
)
PLAN = Plan(warm_up_ms=500, duration_s=4, iterations=15)
COLUMNS = ("model", "what", "p50 ms", "p90 ms", "takes x times as long", "middle half", "ours is", "answers differ by")


def main(*models: str) -> None:
    here = machine.describe()
    print(
        f"{here['cpu']}, {here['cores']} cores, {'VNNI' if here['vnni'] else 'no VNNI'}, {here['system']}, Python "
        f"{here['python']}; batch 1, seed {subject.SEED}, in turns, at least {PLAN.duration_s:g} s each\n"
    )
    for cells in (COLUMNS, ("---",) * len(COLUMNS)):
        print("| " + " | ".join(cells) + " |")
    versions, notes = {}, []
    for model in models or MODELS:
        with tempfile.TemporaryDirectory() as out:
            measure(model, out, versions, notes)
            if os.environ.get("INT8") != "0":
                eight(model, out, versions, notes)
    print("\n" + ", ".join(f"{name} {version}" for name, version in versions.items()))
    print("\n".join(dict.fromkeys(notes)))


def measure(model: str, out: str, versions: dict, notes: list[str]) -> None:
    """The FP32 contenders."""
    asked = request.parse(model, "fp32", weights="random", out=out, batch="1")
    build = pipeline.prepare(asked, Progress(quiet=True), pipeline.CANONICAL)
    show(model, _subject(build, None, out), OURS, able(_subject(build, None, out), AGAINST, notes), versions, notes)


def eight(model: str, out: str, versions: dict, notes: list[str]) -> None:
    """INT8 of ours against FP32 of ours, and against OpenVINO's BF16 where the CPU has it."""
    asked = request.parse(model, "int8", weights="random", out=out, batch="1", target="sm80", allow_unfused=True)
    build = pipeline.prepare(asked, Progress(quiet=True), pipeline.COMPILED)
    what = _subject(build, build.file("type", "model.onnx"), out)
    show(model, what, f"{OURS}-int8", (OURS, *able(what, ("openvino-bf16",), notes)), versions, notes)


def _subject(build, typed: Path | None, out: str) -> Subject:
    scratch = Path(out) / "scratch"
    scratch.mkdir(exist_ok=True)
    return Subject(
        build.recipe, build.spec.classes, "random", build.file("trace", "raw.onnx"),
        build.file("rewrite", "model.fp32.onnx"), typed, 1, len(os.sched_getaffinity(0)), scratch,
    )  # fmt: skip


def able(what: Subject, names, notes: list[str]) -> tuple[str, ...]:
    """The contenders that can run this model here; why the others cannot goes to ``notes``."""
    found = []
    for name in names:
        try:
            subject.contender(name).make(what)()
            found.append(name)
        except UsageError as error:
            notes.append(f"left out: {name}: {error.what} ({error.found})")
        except Exception as error:  # somebody else's library
            notes.append(f"left out: {name} on {what.recipe.name}: {type(error).__name__}: {str(error)[:120]}")
    return tuple(found)


def show(model: str, what: Subject, ours: str, against, versions: dict, notes: list[str]) -> None:
    row = contest.held(what, ours, (ours, *against), PLAN, lambda text: print(text, end="\033[K\r", file=sys.stderr))
    for name, c in row["contenders"].items():
        versions.update(c["versions"])
        t, ratio = c["milliseconds"]["latency"], row["ratios"].get(name)
        compared = ("", "", "", "") if ratio is None else (
            f"{ratio['median']:.2f}", f"{ratio['low']:.2f} to {ratio['high']:.2f}", ratio["verdict"],
            f"{c['difference']:.0e}",
        )  # fmt: skip
        cells = (model, name, f"{t['p50']:.1f}", f"{t['p90']:.1f}", *compared)
        print("| " + " | ".join(cells) + " |", flush=True)
    notes += [f"NOISY: {model}, {ours}: {why}" for why in row["noisy"]]


if __name__ == "__main__":
    main(*sys.argv[1:])
