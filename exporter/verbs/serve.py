"""``serve``: a bundle, or a model repository, on loopback until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from pathlib import Path

from exporter import asking

HELP = "serve a bundle or a model repository on loopback with tritonserver's python backend"

FILE = """curl -s http://127.0.0.1:{http}/v2/models/{model}_image/infer -H 'Inference-Header-Content-Length: 0' \\
  -H 'Content-Type: application/octet-stream' --data-binary @photo.jpg; echo

python3 - photo.jpg <<'END'
import json, sys, urllib.request
picture = open(sys.argv[1], "rb").read()
words = {{"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"}}
url = "http://127.0.0.1:{http}/v2/models/{model}_image/infer"
answer = urllib.request.urlopen(urllib.request.Request(url, picture, words))
print(json.loads(answer.read()[int(answer.headers["Inference-Header-Content-Length"]) :]))
END
"""

TENSOR = """curl -s http://127.0.0.1:{http}/v2/models/{model}/config

python3 - <<'END'
import json, urllib.request
body = {{"inputs": [{{"name": "{input}", "shape": {shape}, "datatype": "FP32", "data": [0.0] * {count}}}]}}
url = "http://127.0.0.1:{http}/v2/models/{model}/infer"
print(json.load(urllib.request.urlopen(url, json.dumps(body).encode()))["outputs"][0]["shape"])
END
"""


def arguments(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("model", nargs="?", help="serve this model's bundle alone (default: what is in the repository)")
    add("--precision", default="fp16", help="the bundle's precision (default: fp16)")
    add("--out", default="build", type=asking.OUT, help="where bundles are (default: build)")
    add("--allow-random", action="store_true", help="serve a bundle with random weights, too")
    add("--repository", default="models", type=asking.REPOSITORY, help="the model repository (default: models)")
    add("--http", type=int, default=8000, help="port (default: 8000)")
    add("--grpc", type=int, default=8001, help="port (default: 8001)")
    add("--install", action="store_true", help="download the server first, if it is not there")


def run(arguments) -> int:
    from exporter import serving, supervision

    if arguments.install:
        print(serving.install() if not (serving.HERE / "bin").is_dir() else serving.HERE)
        return 0
    for name in (signal.SIGTERM, signal.SIGHUP):  # what stops a service, and a terminal that closes
        signal.signal(name, lambda *_: sys.exit(0))  # the server ends with it
    with contextlib.ExitStack() as stack:
        repository = Path(arguments.repository)
        if arguments.model:
            repository = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            _write(arguments, repository)
        names = _models(repository)
        server = stack.enter_context(
            supervision.kept(repository, arguments.http, arguments.grpc, note=lambda text: print(text, file=sys.stderr))
        )
        print(f"serving {', '.join(names)} on http://127.0.0.1:{arguments.http} and grpc 127.0.0.1:{arguments.grpc}; "
              "Ctrl-C ends it\n")  # fmt: skip
        print(words(repository, names, arguments.http), flush=True)
        server.join()
        if server.failed:
            raise server.failed
    return 0


def _write(arguments, repository: Path) -> None:
    from exporter import registry, triton

    folder = Path(arguments.out) / registry.folder(arguments.model) / arguments.precision
    triton.write(folder, repository, "python", arguments.allow_random)


def _models(repository: Path) -> list[str]:
    """The models that have a configuration; :class:`UsageError` where there are none."""
    from exporter.errors import UsageError

    names = sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))
    if not names:
        raise UsageError(
            "there is nothing to serve", stage="serve", found=f"no models in {repository}",
            expected="a repository that make triton wrote",
            next="make serve MODEL=<model>   or   make triton MODEL=<model> REPO=<folder>",
        )  # fmt: skip
    return names


def words(repository: Path, names: list[str], http: int) -> str:
    """A curl line and a Python snippet that work: with a file where there is an ensemble, else with zeros."""
    import json
    from math import prod

    ensembles = [name.removesuffix("_image") for name in names if name.endswith("_image")]
    if ensembles:
        return FILE.format(http=http, model=ensembles[0])
    manifests = sorted(repository.glob(f"{names[0]}/[0-9]*/bundle/manifest.json"))
    if not manifests:
        return f"curl -s http://127.0.0.1:{http}/v2/models/{names[0]}/config"
    spec = json.loads(manifests[-1].read_text())["inputs"][0]
    if spec["dtype"] != "float32":  # JSON has no such numbers
        return f"curl -s http://127.0.0.1:{http}/v2/models/{names[0]}/config"
    shape = [1, *spec["shape"][1:]]
    return TENSOR.format(http=http, model=names[0], input=spec["name"], shape=shape, count=prod(shape))
