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
        return np.stack([images.preprocess(_decoded(p), self.bundle.preprocessing) for p in pictures])

    def infer(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs by name, FP32, a row for each image; more images than the largest batch run in turns."""
        parts = [self._run(pixels[i : i + self.largest]) for i in range(0, len(pixels), self.largest)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def predict(self, pictures: Sequence, top: int = TOP) -> list[list[dict[str, Any]]]:
        """For each picture the ``top`` answers, the surest first: ``index``, ``label``, ``share``; a detector's ``box``
        is [left, top, right, bottom] in shares of the picture.
        """
        found = self.infer(self.pixels(pictures))
        rank = self._boxes if self.bundle.detects else self._classes
        return [rank({name: value[i] for name, value in found.items()}, top) for i in range(len(pictures))]

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
    from exporter.reporting import labels

    bundle = passport.read(Path(folder))
    run, runs = _runner(bundle)
    return Model(bundle, runs, labels.of(bundle.manifest), run)


def described(folder: Path, ask: Callable[[np.ndarray], dict[str, np.ndarray]]) -> Model:
    """A bundle of which only the passport is there; ``ask`` answers in its stead, such as a server."""
    import json

    from exporter.reporting import labels

    manifest = json.loads((folder / "manifest.json").read_text())
    return Model(Passport(folder, manifest), "a server", labels.of(manifest), ask)


def _runner(bundle: Passport) -> tuple[Run, str]:
    from exporter.backends import tensorrt

    engine = bundle.manifest["engine"]
    device, why = tensorrt.cuda_device()
    if device in engine["targets"]:
        return _on_gpu(bundle), f"the engine on this machine's {device}"
    why = why or f"the engine is for {', '.join(engine['targets'])}, the GPU here is {device}"
    return _on_cpu(bundle), f"the numerics twin of model.onnx on the CPU: {why}"


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
