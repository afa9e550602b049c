"""``python -m exporter VERB ...``: every Make target is one verb, every verb a file of ``exporter/verbs``."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import shlex
import sys

from exporter import interrupting, verbs
from exporter.errors import ExporterError, UsageError


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0 done, 1 a check failed, 2 the request cannot be served."""
    words = sys.argv[1:] if argv is None else argv
    interrupting.install()
    try:
        arguments = _parser().parse_args(words)
        arguments.command = "python -m exporter " + shlex.join(words)
        code = arguments.run(arguments)
        if interrupting.pending():
            raise KeyboardInterrupt
        return code
    except ExporterError as error:
        if interrupting.pending():
            return _interrupted()
        if "--json" in words:
            print(json.dumps({"error": error.as_dict()}, indent=1))
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        return 0


def _interrupted() -> int:
    print("interrupted; the last good bundle is as it was", file=sys.stderr)
    return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(f"{self.prog.removeprefix('python -m ')}: {message}", next=f"{self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m exporter", description="Vision transformers from PyTorch to TensorRT engines.")
    adding = parser.add_subparsers(metavar="VERB", required=True)
    for found in sorted(pkgutil.iter_modules(verbs.__path__), key=lambda module: module.name):
        module = importlib.import_module(f"{verbs.__name__}.{found.name}")
        verb = adding.add_parser(found.name.replace("_", "-"), help=module.HELP, description=module.HELP)
        module.arguments(verb)
        verb.set_defaults(run=module.run)
    return parser
