"""``serve``: a model repository on loopback, until Ctrl-C."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "serve a model repository on loopback with tritonserver's python backend"

WORDS = """serving {models} on http://127.0.0.1:{http} and grpc 127.0.0.1:{grpc}; Ctrl-C ends it

python - <<'END'
import json, urllib.request
body = {{"inputs": [{{"name": "{input}", "shape": {shape}, "datatype": "FP32", "data": [0.0] * {count}}}]}}
url = "http://127.0.0.1:{http}/v2/models/{model}/infer"
print(json.load(urllib.request.urlopen(url, json.dumps(body).encode()))["outputs"][0]["shape"])
END

curl -s http://127.0.0.1:{http}/v2/models/{model}/config"""


def arguments(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("--repository", default="models", help="the model repository (default: models)")
    add("--http", type=int, default=8000, help="port (default: 8000)")
    add("--grpc", type=int, default=8001, help="port (default: 8001)")
    add("--install", action="store_true", help="download the server first, if it is not there")


def run(arguments) -> int:
    import json
    from math import prod

    from exporter import serving
    from exporter.errors import UsageError

    if arguments.install:
        print(serving.install() if not (serving.HERE / "bin").is_dir() else serving.HERE)
        return 0
    repository = Path(arguments.repository)
    manifests = sorted(repository.glob("*/[0-9]*/bundle/manifest.json"))
    names = sorted(path.name for path in repository.glob("*") if (path / "config.pbtxt").is_file())
    if not names or not manifests:
        raise UsageError(
            "there is nothing to serve", stage="serve", found=f"no models in {repository}",
            expected="a repository that make triton wrote", next="make triton MODEL=<model> REPO=<folder>",
        )  # fmt: skip
    spec = json.loads(manifests[-1].read_text())["inputs"][0]
    shape = [1, *spec["shape"][1:]]
    model = next(name for name in names if not name.endswith("_image"))
    with serving.started(repository, arguments.http, arguments.grpc) as process:
        words = {"models": ", ".join(names), "http": arguments.http, "grpc": arguments.grpc, "input": spec["name"]}
        print(WORDS.format(**words, shape=shape, count=prod(shape), model=model), flush=True)
        process.wait()
    return 0
