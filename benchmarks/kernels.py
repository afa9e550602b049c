"""What the compiler emits for a model as it is exported and after the rewrites, side by side in one run.

``python benchmarks/kernels.py [model ...]`` compiles each for sm80 at FP16, at the batches of :data:`CASES`, and prints
kernels, signals and waits, fused attentions, bytes moved, matrix FLOPs and the floor on an A100, in Markdown. Beside
the plain export stand onnxsim's and onnxslim's output of it, where they are installed. Weights are random: a compiler
does not look at them.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version

from exporter import choice, emitted, kernels, pipeline, request, roofline
from exporter.progress import Progress
from exporter.stages import typed

CASES = {
    "swin_t": ("1", "32", "1:8:32"),
    "swin_b": ("1",),
    "swin_v2_t": ("1",),
    "vit_b": ("1", "32", "1:8:32"),
    "mixer_b": ("1", "32"),
    "detr_r50": ("1",),
}
TARGET = "sm80"
COLUMNS = ("model", "batch", "graph", "kernels", "signal/wait, host numbers", "fused", "MB", "GFLOP", "floor us")


def main(*models: str) -> None:
    for cells in (COLUMNS, ("---",) * len(COLUMNS)):
        print("| " + " | ".join(cells) + " |", flush=True)
    with tempfile.TemporaryDirectory() as out:
        for model in models or CASES:
            for batch in CASES.get(model, ("1", "32")):
                for cells in measure(model, batch, out):
                    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def measure(model: str, batch: str, out: str) -> Iterator[tuple]:
    """A row for each graph: as exported, simplified by others, and in the form that ``make engine`` builds."""
    asked = request.parse(model, "fp16", batch=batch, target=TARGET, weights="random", out=out)
    build = pipeline.prepare(asked, Progress(quiet=True), pipeline.CANONICAL)
    chosen = choice.choose(asked)
    as_exported = choice.Choice(choice.CANONICAL_FORM, "as exported")
    raw = build.model("trace", "raw.onnx")
    graphs = (
        ("as exported", raw, as_exported),
        *((name, graph, as_exported) for name, graph in simplified(raw)),
        (chosen.form, build.model("rewrite", "model.fp32.onnx"), chosen),
    )
    for label, graph, form in graphs:
        yield _row(model, batch, label, graph, asked, form)


def simplified(raw):
    """(name, graph) of what onnxsim and onnxslim make of the export; what they cannot is said on standard error."""
    for name, simplify in (
        ("onnxsim", lambda m: __import__("onnxsim").simplify(m)[0]),
        ("onnxslim", lambda m: __import__("onnxslim").slim(m)),
    ):
        copy = type(raw)()
        copy.CopyFrom(raw)
        try:
            graph = simplify(copy)
        except Exception as error:  # somebody else's library, or it is not installed
            print(f"{name}: left out ({type(error).__name__}: {str(error)[:80]})", file=sys.stderr)
            continue
        for index, node in enumerate(graph.graph.node):
            node.name = node.name or f"{name}/{node.op_type}_{index}"
        yield f"{name} {version(name)}", graph


def _row(model: str, batch: str, label: str, graph, asked, form) -> tuple:
    made, *_ = typed.make(graph, asked, form)
    found = emitted.weigh(made.model, asked)
    names = emitted.softmaxes(made.model)
    totals = kernels.totals(found.engine, found.sized, names)
    floor = roofline.microseconds(found.sized, roofline.CHIPS[TARGET])
    return (
        model, batch, label, totals.count, f"{found.synchronisations}, {found.host_numbers}",
        f"{totals.fused_attention}/{len(names)}", f"{totals.bytes_moved / 1e6:.0f}", f"{totals.flops / 1e9:.1f}",
        f"{floor:.0f}",
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
