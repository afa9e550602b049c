"""A bundle as a thing that answers: ``load("build/swin_b/fp16").predict(images)``.

Where a GPU of one of the engine's targets is, the engine runs; elsewhere the numerics twin of ``model.onnx`` in ONNX
Runtime, which rounds as the engine does. ``runs`` says which. Triton's python backend uses this and nothing else.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from calibration import images
from exporter import passport
from exporter.errors import UsageError
from exporter.metrics import softmax
from exporter.passport import Passport

TOP = 5

Run = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass
class Model:
    """A loaded bundle. ``runs`` is what answers, in words."""

    bundle: Passport
    runs: str
    labels: list[str]
    _run: Run

    @property
    def input(self) -> str:
        """The input's name."""
        return self.bundle.manifest["inputs"][0]["name"]

    @property
    def largest(self) -> int:
        """The largest batch that the engine was built for."""
        return self.bundle.manifest["batch"]["max"]

    def pixels(self, pictures: Iterable) -> np.ndarray:
        """(N, 3, H, W) float32 of files, encoded bytes or PIL images, preprocessed as the manifest says.

        Raises :class:`UsageError` for what is no image.
        """
        return np.concatenate([self.prepared(picture)[0] for picture in pictures])

    def prepared(self, picture) -> tuple[np.ndarray, np.ndarray]:
        """(1, 3, H, W) float32 of one picture, and the picture's height and width, upright."""
        image = _decoded(picture)
        return images.preprocess(image, self.bundle.preprocessing)[None], np.array([image.height, image.width])

    def infer(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs by name, FP32, a row for each image.

        More images than the largest batch run in turns, fewer than the smallest beside empty ones.
        """
        if len(pixels) < (least := self.bundle.manifest["batch"]["min"]):
            padded = np.concatenate([pixels, np.zeros((least - len(pixels), *pixels.shape[1:]), pixels.dtype)])
            return {name: value[: len(pixels)] for name, value in self.infer(padded).items()}
        if len(pixels) <= self.largest:
            return self._run(pixels)
        parts = [self.infer(pixels[i : i + self.largest]) for i in range(0, len(pixels), self.largest)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def infer_parts(self, parts: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """The outputs of each of several batches that run as one."""
        found = self.infer(parts[0] if len(parts) == 1 else np.concatenate(parts))
        ends = np.cumsum([len(part) for part in parts])[:-1]
        split = {name: np.split(value, ends) for name, value in found.items()}
        return [{name: rows[i] for name, rows in split.items()} for i in range(len(parts))]

    def predict(self, pictures: Sequence, top: int = TOP) -> list[list[dict[str, Any]]]:
        """For each picture the ``top`` answers, the surest first: ``index``, ``label``, ``share``; a detector's ``box``
        is [left, top, right, bottom] in the picture's pixels, upright.
        """
        made = [self.prepared(picture) for picture in pictures]
        found = self.infer(np.concatenate([rows for rows, _ in made]))
        return [
            self.ranked({name: value[i] for name, value in found.items()}, (int(size[0]), int(size[1])), top)
            for i, (_, size) in enumerate(made)
        ]

    def ranked(self, answer: dict[str, np.ndarray], size: tuple[int, int], top: int = TOP) -> list[dict[str, Any]]:
        """The ``top`` answers of one row of outputs for a picture of ``size`` (height, width)."""
        if not self.bundle.detects:
            return self._classes(answer, top)
        left, upper, width, height = images.window(size, self.bundle.preprocessing)
        made = self._boxes(answer, top)
        for one in made:
            x0, y0, x1, y1 = one["box"]
            one["box"] = [left + x0 * width, upper + y0 * height, left + x1 * width, upper + y1 * height]
        return made

    def _classes(self, answer: dict[str, np.ndarray], top: int) -> list[dict[str, Any]]:
        shares = softmax(next(iter(answer.values())))
        order = np.argsort(-shares, kind="stable")[:top]
        return [{"index": int(i), "label": self._label(int(i)), "share": float(shares[i])} for i in order]

    def _boxes(self, answer: dict[str, np.ndarray], top: int) -> list[dict[str, Any]]:
        shares = softmax(answer["logits"])[:, :-1]  # the last class is "no object"
        sure = shares.max(-1)
        made = []
        for query in np.argsort(-sure, kind="stable")[:top]:
            x, y, width, height = (float(v) for v in answer["boxes"][query])
            index = int(shares[query].argmax())
            box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
            made.append({"index": index, "label": self._label(index), "share": float(sure[query]), "box": box})
        return made

    def _label(self, index: int) -> str:
        return self.labels[index] if index < len(self.labels) else str(index)


def load(folder: str | Path) -> Model:
    """The bundle in ``folder``, its files checked against its manifest; :class:`UsageError` where they differ."""
    from exporter import labels

    bundle = passport.read(Path(folder))
    run, runs = _runner(bundle)
    return Model(bundle, runs, labels.of(bundle.manifest), run)


def described(folder: Path) -> Model:
    """A bundle of which only the passport is there: it prepares pictures and ranks answers, and infers nothing."""
    import json

    from exporter import labels

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        raise UsageError("only the passport of the bundle is here", found=str(folder), next="ask the server")

    manifest = json.loads((folder / "manifest.json").read_text())
    return Model(Passport(folder, manifest), "nothing", labels.of(manifest), run)


def _runner(bundle: Passport) -> tuple[Run, str]:
    from exporter.backends import tensorrt

    engine = bundle.manifest["engine"]
    device, why = tensorrt.cuda_device()
    if device in engine["targets"]:
        _check_library(bundle, tensorrt.version(engine["backend"]))
        return _on_gpu(bundle), f"the engine on this machine's {device}"
    why = why or f"the engine is for {', '.join(engine['targets'])}, the GPU here is {device}"
    return _on_cpu(bundle), f"the numerics twin of model.onnx on the CPU: {why}"


def _check_library(bundle: Passport, found: str) -> None:
    """:class:`UsageError` where another version built the engine; build numbers behind the third may differ."""
    manifest, built = bundle.manifest, bundle.manifest["engine"]["backend_version"]
    if found.split(".")[:3] == built.split(".")[:3]:
        return
    backend = manifest["engine"]["backend"]
    raise UsageError(
        f"the engine was built with another version of {backend}",
        model=manifest["model"],
        stage="load",
        found=f"{backend} {found} is installed here",
        expected=built,
        next=f"make engine MODEL={manifest['model']} PRECISION={manifest['precision']}   with the version of here",
    )


def _on_cpu(bundle: Passport) -> Run:
    from exporter import numerics, onnxio, registry
    from exporter.backends.onnxruntime import run, session

    model = onnxio.load(bundle.folder / passport.ONNX)
    precision = registry.precision(bundle.manifest["precision"])
    if precision.element_type != "float32" or precision.tf32:
        model = numerics.twin(model, precision.tf32)
    made = session(model)
    name = bundle.manifest["inputs"][0]["name"]
    return lambda pixels: {k: np.asarray(v, np.float32) for k, v in run(made, {name: pixels}).items()}


def _on_gpu(bundle: Passport) -> Run:
    from exporter import parity
    from exporter.backends import tensorrt

    active = tensorrt.runner(bundle.folder / passport.ENGINE, bundle.manifest["engine"]["backend"])
    active.activate()
    spec = bundle.manifest["inputs"][0]

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        import torch

        feed = torch.from_numpy(pixels).to(getattr(torch, spec["dtype"]))
        return {name: parity.as_float32(value) for name, value in active.infer({spec["name"]: feed}).items()}

    return run


def _decoded(picture) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    return images.decode(_Bytes(picture) if isinstance(picture, bytes) else Path(picture))


class _Bytes(io.BytesIO):
    """An encoded picture, as an error names it."""

    def __str__(self) -> str:
        return f"the picture of {len(self.getbuffer())} bytes"

    __repr__ = __str__
