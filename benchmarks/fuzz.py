"""``make fuzz``: damaged and hostile files for every reader, guided by coverage (atheris, https://github.com/google/atheris).

    python benchmarks/fuzz.py [--runs 1000000] [--seed 1] [READER ...]

Seeds are the files of ``tests/corpus/<reader>/``; an input that made a reader raise anything but an error of ours, take
more than 10 s or more than 2 GiB is kept beside them, where ``tests/test_fuzz.py`` reads it again ever after.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).parents[1] / "tests" / "corpus"
SECONDS, MEBIBYTES, LONGEST = 10, 2048, 1 << 14
"""What one input may take, and its largest size in bytes."""

STRANGE = (
    None, True, 0, -1, 1, 10**30, -1e308, 0.5, "", "nan", "\n", "../x", "a" * 300, "\ud800", "\0", [], {}, [[]], [1, 2],
    {"a": 1}, "sm80", "0" * 64, "x\n#include <y>",
)  # fmt: skip
"""Values that a JSON file may hold where another was due."""


@dataclass(frozen=True)
class Reader:
    """``read`` gets the input as a file called ``file`` in a folder of its own. ``share`` is its part of all runs."""

    name: str
    file: str
    share: float
    read: Callable[[Path], object]
    is_json: bool = False


def _manifest(path: Path) -> None:
    from exporter import cpp, passport, triton

    for name in (passport.ONNX, passport.ENGINE):
        if not (path.parent / name).exists():
            (path.parent / name).write_bytes(name.encode())
    bundle = passport.read(path.parent)
    passport.fit_to_serve(bundle, "triton", allow_random=True)
    for backend in ("python", "tensorrt_plan"):
        triton.config(bundle, "model", backend)
    text = cpp.header(bundle)
    outside = re.sub(r'"(?:[^"\\\n]|\\.)*"', "", text)
    if "#" in outside.replace("#pragma once", "").replace("#include", "", 1):
        raise AssertionError(f"text of the manifest reaches the C++ program: {outside}")


def _published(path: Path) -> None:
    from exporter.errors import UsageError
    from exporter.reporting import published

    with contextlib.suppress(UsageError):
        published.find(path.parents[2], path.parents[1].name)


def _bench(path: Path) -> None:
    from exporter.reporting import latency
    from exporter.reporting.published import Published

    engine = {"engine": {"sha256": "e" * 64}}
    latency.of([Published("fp16", path.parent, engine)])


def _entry(path: Path) -> None:
    from exporter.files import sha256_file
    from exporter.store import Store

    root = path.parents[2]
    ranges = path.with_name("ranges.json")
    ranges.write_text("{}")
    found = Store(root, lambda said: None).find("stage", path.parent.name)
    if found and any(sha256_file(found.path(name)) != fact["sha256"] for name, fact in found.files.items()):
        raise AssertionError("an entry whose files are not what its record says was handed out")
    path.parent.mkdir(parents=True, exist_ok=True)


def _checkpoint(path: Path) -> None:
    from exporter import checkpoint

    checkpoint.read(path, "m")


def _onnx(path: Path) -> None:
    """The child's work, done here: what it lets pass must load."""
    import onnx_graphsurgeon as gs

    from exporter import isolated, onnxio
    from exporter.jsonfile import Damaged

    if why := isolated.look(path):
        raise Damaged(why)
    gs.import_onnx(onnxio.load(path))


def _sweep(path: Path) -> None:
    from exporter import sweepfile

    sweepfile.read(path)


def _coco(path: Path) -> None:
    from calibration import coco

    coco.instances(path)


def _image(path: Path) -> None:
    from calibration import images
    from exporter import registry

    images.preprocess(images.decode(path), registry.recipe("vit_digits").preprocessing)


def _array(path: Path) -> None:
    from calibration import sources
    from exporter import registry

    found = sources.source(path, registry.recipe("vit_digits"), 4, [])
    for row in found.rows(lambda *said: None):
        assert row.shape == (3, 32, 32)


READERS = {
    reader.name: reader
    for reader in (
        Reader("manifest", "manifest.json", 0.2, _manifest, is_json=True),
        Reader("report", "out/toy/fp16/manifest.json", 0.15, _published, is_json=True),
        Reader("bench", "bench.cpu.json", 0.05, _bench, is_json=True),
        Reader("entry", "cache/stage/k/entry.json", 0.1, _entry, is_json=True),
        Reader("safetensors", "m.safetensors", 0.1, _checkpoint),
        Reader("torch", "m.pt", 0.1, _checkpoint),
        Reader("onnx", "m.onnx", 0.1, _onnx),
        Reader("sweep", "sweep.yaml", 0.05, _sweep),
        Reader("coco", "instances.json", 0.05, _coco, is_json=True),
        Reader("image", "m.png", 0.05, _image),
        Reader("array", "rows.npz", 0.05, _array),
    )
}


def run(reader: Reader, data: bytes, folder: Path) -> bool:
    """Whether the reader took the input; False for an error of ours, and anything else is raised."""
    from exporter.errors import CheckFailed, UsageError
    from exporter.jsonfile import Damaged

    path = folder / reader.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    try:
        reader.read(path)
    except (UsageError, CheckFailed, Damaged):
        return False
    return True


def mutated(data: bytes, rng: random.Random, is_json: bool) -> bytes:
    """The input with one place of its JSON made strange, or where it is none, with some bytes changed."""
    if is_json and rng.random() < 0.9:
        with contextlib.suppress(ValueError, RecursionError):
            return json.dumps(_strange(json.loads(data), rng)).encode()
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(len(made)) if made else 0
        match rng.randrange(5):
            case 0:
                made[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                del made[place : place + rng.randrange(1, 32)]
            case 2:
                made[place : place + 8] = rng.choice((0, 1, 255, 2**31, 2**63)).to_bytes(8, "little")
            case 3:
                made[place:place] = made[rng.randrange(len(made)) :][: rng.randrange(64)] if made else b"{"
            case _:
                del made[place:]
    return bytes(made)


def _strange(value, rng: random.Random):
    """The tree with one member replaced, removed or buried, at any depth."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.8:
        key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if rng.random() < 0.1:
            return [v for i, v in enumerate(value) if i != key] if isinstance(value, list) else {
                k: v for k, v in value.items() if k != key
            }  # fmt: skip
        made = value.copy()
        made[key] = _strange(value[key], rng)
        return made
    if rng.random() < 0.05:
        for _ in range(rng.choice((3, 300))):
            value = [value]
        return value
    return rng.choice(STRANGE)


def fuzz(name: str, runs: int, seed: int, folder: Path) -> None:
    """This process becomes libFuzzer: it ends with the last run or the first crash."""
    import atheris

    with atheris.instrument_imports(include=["exporter", "calibration"]):
        reader = READERS[name]
        with contextlib.suppress(Exception):
            reader.read(folder / "nothing")  # imports what it needs

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        return atheris.Mutate(data, most) if rng.random() < 0.5 else mutated(data, rng, reader.is_json)[:most]

    words = [f"-runs={runs}", f"-seed={seed}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEBIBYTES}"]
    words += [
        f"-max_len={LONGEST}",
        f"-artifact_prefix={CORPUS / name}/found-",
        str(folder / "grown"),
        str(CORPUS / name),
    ]
    (folder / "grown").mkdir()
    atheris.Setup([sys.argv[0], *words], lambda data: run(reader, data, folder) and None, custom_mutator=mutate)
    atheris.Fuzz()


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", choices=[[], *READERS], metavar="READER")
    parser.add_argument("--runs", type=int, default=1_000_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(argv)
    names = asked.readers or list(READERS)
    whole = sum(READERS[name].share for name in names)
    print("| reader | inputs | crashes | seconds |\n| --- | --- | --- | --- |", flush=True)
    total = failed = 0
    for name in names:
        runs = max(1, round(asked.runs * READERS[name].share / whole))
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            words = [sys.executable, __file__, "--child", name, str(runs), str(asked.seed), folder]
            done = subprocess.run(words, capture_output=True, text=True, errors="replace")
        count = max(map(int, re.findall(r"^#(\d+)\s", done.stderr, re.M)), default=0)
        total, failed = total + count, failed + (done.returncode != 0)
        print(f"| {name} | {count} | {int(done.returncode != 0)} | {time.monotonic() - started:.0f} |", flush=True)
        if done.returncode:
            print("\n".join((done.stdout + done.stderr).splitlines()[-40:]), file=sys.stderr)
    print(f"| all | {total} | {failed} | |")
    return int(failed > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        fuzz(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
    sys.exit(main(sys.argv[1:]))
