"""``bench``: how long an engine takes."""

from __future__ import annotations

import argparse
import math

from exporter import asking

HELP = "time a bundle's engine, or its graph on the CPU where no GPU can run it, beside what could be run instead"


def arguments(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("model", help="a recipe's name (see: list)")
    add("--precision", default="fp16", help="which of the model's bundles (default: fp16)")
    add("--batch", help="images, comma-separated, within the engine's profile (default: its optimum)")
    add("--backend", help="tensorrt-rtx, tensorrt or onnxruntime (default: the engine's, where its GPU is)")
    add(
        "--vs",
        help="torch, torch.compile, onnx-plain, onnxsim, onnxslim, ort-transformers, openvino, openvino-bf16, ours",
    )
    add("--out", default="build", type=asking.OUT, help="where bundles are (default: build)")
    add("--weights", default="auto", help="for torch: what the engine was built with (timing does not depend on it)")
    add("--warm-up", type=float, default=200, help="milliseconds (default: 200)")
    add("--duration", type=float, default=3, help="seconds, at least, for each contender (default: 3)")
    add("--iterations", type=int, default=10, help="queries, at least (default: 10)")
    add("--threads", type=int, default=0, help="on the CPU (default: every core that this process may use)")
    add("--no-graphs", action="store_true", help="on a GPU: without CUDA graphs only")
    add("--no-spin", action="store_true", help="on a GPU: the host sleeps while it waits")
    add("--quiet", action="store_true", help="no progress, only the tables")
    add("--json", action="store_true", help="print the result as JSON on standard output")


def run(arguments) -> int:
    from exporter import bench, bench_report, request
    from exporter.errors import UsageError
    from exporter.progress import Progress
    from exporter.timing import Plan

    plan = Plan(arguments.warm_up, arguments.duration, arguments.iterations)
    times = (plan.warm_up_ms, plan.duration_s)
    if not all(0 <= t < math.inf for t in times) or plan.iterations < 1 or arguments.threads < 0:
        raise UsageError(
            "these are no times to measure", found=str(plan.as_dict()),
            expected="warm-up and duration of at least 0, at least one query", next="python -m exporter bench --help",
        )  # fmt: skip
    found = bench.bench(
        bench.Asked(
            arguments.model,
            arguments.precision,
            request.parse_out(arguments.out),
            bench.parse_batches(arguments.batch),
            arguments.backend,
            bench.parse_against(arguments.vs),
            plan,
            arguments.threads,
            arguments.weights,
            not arguments.no_graphs,
            not arguments.no_spin,
            arguments.command,
        ),
        Progress(arguments.quiet),
    )
    return asking.show(arguments, found, lambda: bench_report.shown(found))
