"""``python -m exporter VERB ...``: every Make target is one verb. Parses words, calls, prints; decides nothing."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
from pathlib import Path

from exporter.errors import ExporterError


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0 done, 1 a check failed, 2 the request cannot be served."""
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(words)
    arguments.command = "python -m exporter " + shlex.join(words)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return arguments.run(arguments)
    except ExporterError as error:
        if getattr(arguments, "json", False):
            print(json.dumps({"error": error.as_dict()}, indent=1))
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the last good bundle is as it was", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


def _terminate(number, frame):
    raise KeyboardInterrupt  # the clean-up of Ctrl-C: the compiler's process ends, temporary files go


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m exporter", description="Vision transformers from PyTorch to TensorRT engines."
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name, run, text in (
        ("engine", engine, "build an engine, prove its parity, leave a bundle"),
        ("parity", parity, "the parity ladder of a build, rung by rung"),
        ("kernels", kernels, "the kernels that the compiler emitted, biggest first"),
        ("tune", tune, "build every form of attention, score what the compiler emits, keep the winner"),
        ("explain", explain, "what each rewrite did to the graph and to the kernels"),
    ):
        verb = verbs.add_parser(name, help=text, description=text)
        _add_request(verb)
        verb.set_defaults(run=run)
    text = "name the unit of the network that a graph computes differently"
    verb = verbs.add_parser("blame", help=text, description=text)
    _add_request(verb)
    verb.add_argument("--onnx", type=Path, help="an ONNX file to judge (default: the model's own ladder)")
    verb.set_defaults(run=blame)
    text = "one HTML file of what was built of a model: verdicts, differences, kernels, how it was made"
    verb = verbs.add_parser("report", help=text, description=text)
    _add_report(verb)
    verb.set_defaults(run=report)
    verb = verbs.add_parser("list", help="the models", description="The models, by family.")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=list_models)
    return parser


def _add_request(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("model", help="a recipe's name (see: list)")
    add("--precision", default="fp16", help="fp32, tf32, fp16 (default), bf16")
    add("--target", help="compute capabilities, comma-separated (default: sm80,sm86,sm89,sm120)")
    add("--batch", help="N (static) or MIN:OPT:MAX (default: the recipe's, mostly 1:8:32)")
    add("--weights", default="auto", help="auto (default), pretrained, random, or a .safetensors / .pt file")
    add("--image", help="image size in pixels, N or HEIGHTxWIDTH (default: the recipe's)")
    add("--io", default="fp32", help="type of inputs and outputs: fp32 (default) or the precision's own")
    add("--images", help="a folder of photographs for parity (default: six that scikit-image ships)")
    add("--out", default="build", help="where bundles and the cache go (default: build)")
    add("--backend", default="tensorrt-rtx", help="tensorrt-rtx (default, no GPU needed) or tensorrt")
    add("--without", default="", help="rewrites to leave out, comma-separated")
    add("--form", help="the form of attention (default: the tuned one)")
    add("--allow-unfused", action="store_true", help="let a build pass that the compiler fused less than promised")
    add("--quiet", action="store_true", help="no progress, only the verdict")
    add("--json", action="store_true", help="print the result as JSON on standard output")


def _add_report(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("model", help="a recipe's name (see: list)")
    add("--precision", default="all", help="precisions, comma-separated (default: all that were built)")
    add("--out", default="build", help="where bundles and the cache are (default: build)")
    add("--depth", action="store_true", help="measure the error block by block first, where nobody did")
    add("--weights", help="where the weights of the builds are now (default: where their commands say)")
    add("--images", help="where the photographs of the builds are now (default: where their commands say)")
    add("--quiet", action="store_true", help="no progress, only the verdicts")
    add("--json", action="store_true", help="print the result as JSON on standard output")


def _request(arguments):
    from exporter import request

    fields = (
        "precision",
        "batch",
        "target",
        "backend",
        "weights",
        "image",
        "io",
        "out",
        "images",
        "allow_unfused",
        "without",
        "form",
        "command",
    )
    return request.parse(arguments.model, **{name: getattr(arguments, name) for name in fields})


def _build(arguments):
    from exporter import pipeline
    from exporter.progress import Progress

    return pipeline.run(_request(arguments), Progress(arguments.quiet))


def _finish(arguments, made, data, show) -> int:
    """Print ``data`` as JSON or ``show()``, then the failures; the exit code."""
    _show(arguments, data, show)
    for failure in made.failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if made.failures else 0


def engine(arguments) -> int:
    from exporter import tables

    made = _build(arguments)
    return _finish(arguments, made, made.manifest, lambda: tables.verdict(made.manifest, made.folder))


def parity(arguments) -> int:
    from exporter import tables

    made = _build(arguments)
    return _finish(arguments, made, made.manifest["parity"], lambda: tables.parity(made.manifest))


def kernels(arguments) -> int:
    from exporter import tables

    made = _build(arguments)
    data = json.loads((made.folder / "kernels.json").read_text())
    return _finish(arguments, made, data, lambda: tables.kernels(data))


def tune(arguments) -> int:
    from exporter import tables, tune
    from exporter.progress import Progress

    asked = _request(arguments)
    row = tune.tune(asked, Progress(arguments.quiet))
    tune.record(asked, row)
    return _show(arguments, row, lambda: tables.tuned(asked, row))


def explain(arguments) -> int:
    from exporter import explain, tables
    from exporter.progress import Progress

    found = explain.explain(_request(arguments), Progress(arguments.quiet))
    return _show(arguments, found, lambda: tables.explained(found))


def blame(arguments) -> int:
    from exporter import blame, blame_report
    from exporter.progress import Progress

    found = blame.blame(_request(arguments), Progress(arguments.quiet), arguments.onnx)
    _show(arguments, found, lambda: blame_report.blamed(found))
    return 1 if found["guilty"] or any(r["status"] == "failed" for r in found["rungs"].values()) else 0


def report(arguments) -> int:
    from exporter import report, request
    from exporter.progress import Progress

    out = request.parse_out(arguments.out)
    found = report.report(
        arguments.model,
        out,
        Progress(arguments.quiet),
        precisions=report.parse_precisions(arguments.precision, out, arguments.model),
        depth=arguments.depth,
        weights=arguments.weights,
        images=arguments.images,
    )
    return _show(arguments, found, lambda: report.show(found))


def _show(arguments, data, show) -> int:
    if arguments.json:
        print(json.dumps(data, indent=1, ensure_ascii=False))
    else:
        show()
    return 0


def list_models(arguments) -> int:
    from exporter import tables

    return _show(arguments, tables.model_rows(), tables.models)
