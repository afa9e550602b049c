"""What the torch module answers, in FP32, for every photograph and every row of noise: the reference of all parity."""

from __future__ import annotations

from pathlib import Path

from exporter.build import Build
from exporter.registry import recipe_source
from exporter.store import Entry

NAME = "reference"
NEEDS = ("weights",)
CODE = (
    "exporter.weights",
    "exporter.checkpoint",
    "exporter.samples",
    "exporter.parity",
    "calibration.images",
)
CHUNK = 8
"""Images in one run, if the profile's batch allows: enough for the matrix products, little enough for the memory."""


def parts(build: Build) -> dict:
    from exporter import samples

    return {
        "recipe": recipe_source(build.recipe),
        "name": build.recipe.name,
        "image": build.recipe.preprocessing.size,
        "images": samples.fingerprint(build.images),
        "versions": versions("torch", "torchvision", "timm", "transformers", "pillow"),
    }


def versions(*packages: str) -> dict[str, str]:
    """Installed versions, read without importing anything."""
    from importlib.metadata import version

    return {package: version(package) for package in packages}


def run(build: Build, folder: Path) -> tuple[dict, dict]:
    samples = build.samples  # a file that is no image is found before torch is loaded
    import numpy as np

    from exporter import parity

    module = build.module
    build.note(f"torch on {len(samples.pixels)} images")
    chunk = min(CHUNK, build.request.batch.max)
    starts = range(0, len(samples.pixels), chunk)
    name = build.recipe.inputs[0].name
    found = parity.run(
        parity.TorchRunner(module, build.recipe), [{name: samples.pixels[i : i + chunk]} for i in starts]
    )
    outputs = {key: np.concatenate([batch[key] for batch in found]) for key in found[0]}
    np.savez(folder / "reference.npz", **outputs)
    parameters = sum(p.numel() for p in module.parameters())
    shapes = {key: list(value.shape[1:]) for key, value in outputs.items()}
    return {
        "samples": list(samples.names),
        "parameters": parameters,
        "output_shapes": shapes,
        "resampled": build.resampled,
    }, {"outputs": outputs}


def summary(entry: Entry) -> str:
    return f"torch, {entry.meta['parameters'] / 1e6:.1f} M parameters, {len(entry.meta['samples'])} images"


def outputs(build: Build):
    """The reference outputs by name, a row for each sample."""
    import numpy as np

    entry = build.entries[NAME]
    if "outputs" not in entry.memory:
        with np.load(entry.path("reference.npz")) as stored:
            entry.memory["outputs"] = dict(stored)
    return entry.memory["outputs"]
