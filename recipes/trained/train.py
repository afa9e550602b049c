"""``python -m recipes.trained.train vit_digits``: train a digits recipe from nothing, seeded, on the CPU.

AdamW with a cosine schedule on randomly moved, turned and scaled digits; writes ``<name>.safetensors`` and, beside it,
``<name>.json`` with the held-out accuracy or average precision, the seed, the seconds and the versions.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from safetensors.torch import save

from exporter import registry
from exporter.files import write_atomically, write_json
from exporter.types import ModuleSpec, Recipe
from recipes import detr_digits, digits
from recipes.trained import detector

EPOCHS = {"vit_digits": 80, "swin_digits": 80, "mixer_digits": 80, "detr_digits": 100}
BATCH = 64
RATE = 2e-3
WEIGHT_DECAY = 0.05
SMOOTHING = 0.1
WARMUP = 0.1
"""Share of the steps in which the learning rate rises."""


def moved(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(N, 3, H, W) images, each turned by up to 15 degrees, scaled by up to 15 % and moved by up to a tenth."""

    def drawn(width: float) -> torch.Tensor:
        return (torch.rand(len(batch), generator=generator) * 2 - 1) * width

    angle, scale = drawn(math.pi / 12), 1 + drawn(0.15)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [torch.stack([cosine, -sine, drawn(0.2)], 1), torch.stack([sine, cosine, drawn(0.2)], 1)]
    grid = torch.nn.functional.affine_grid(torch.stack(rows, 1), list(batch.shape), align_corners=False)
    return torch.nn.functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)


def train(
    recipe: Recipe, epochs: int, seed: int = digits.SEED, said=lambda epoch, loss: None, count: int | None = None
):
    """The trained module in eval mode; ``count`` digits are trained on, all of them by default."""
    torch.manual_seed(seed)
    module = recipe.build(ModuleSpec(recipe.preprocessing.size, recipe.classes))
    return fit(module, recipe, epochs, RATE, seed, said, count)


def fit(module, recipe: Recipe, epochs: int, rate: float, seed: int, said=lambda epoch, loss: None, count=None):
    """The module trained further, from the weights that it has, at a highest learning rate; in eval mode."""
    torch.manual_seed(seed)
    module.train()
    generator = torch.Generator().manual_seed(seed)
    pictures, labels = (part[:count] for part in digits.split()[0])
    images = torch.from_numpy(np.stack([digits.pixels(p, recipe) for p in pictures]))
    targets = torch.from_numpy(labels)
    steps = epochs * math.ceil(len(images) / BATCH)
    optimiser = torch.optim.AdamW(module.parameters(), rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step / steps))
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(images), generator=generator).split(BATCH):
            loss = loss_of(module(moved(images[rows], generator)), targets[rows])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += loss.item() * len(rows)
        said(epoch + 1, total / len(images))
    return module.eval()


def _rate(progress: float) -> float:
    """The learning rate as a share of the highest."""
    return (
        progress / WARMUP if progress < WARMUP else 0.5 + 0.5 * math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP))
    )


def accuracy(module, recipe: Recipe) -> float:
    """The share of the held-out digits that the module names."""
    rows, labels = zip(*digits.held_out(recipe), strict=True)
    with torch.no_grad():
        answers = module(torch.from_numpy(np.stack(rows))).argmax(1)
    return float((answers.numpy() == np.array(labels)).mean())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m recipes.trained.train", description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=sorted(EPOCHS))
    parser.add_argument("--epochs", type=int, help="default: as many as the shipped weights were trained for")
    parser.add_argument("--out", type=Path, default=digits.TRAINED)
    arguments = parser.parse_args(argv)
    recipe = registry.recipe(arguments.model)
    epochs = arguments.epochs or EPOCHS[recipe.name]
    started = time.perf_counter()
    with Progress() as progress:
        task = progress.add_task(recipe.name, total=epochs)

        def said(epoch: int, loss: float) -> None:
            progress.update(task, completed=epoch, description=f"{recipe.name} {loss:.3f}")

        if recipe.task == "detection":
            module = detector.train(recipe, epochs, _rate, said=said)
            found = {"ap50": detector.precision(module, recipe).ap50, "held_out": detr_digits.SCENES}
        else:
            module = train(recipe, epochs, said=said)
            found = {"accuracy": accuracy(module, recipe), "held_out": digits.HELD_OUT}
    state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.out / f"{recipe.name}.safetensors", save(state))
    facts = {
        **found,
        "seed": digits.SEED,
        "epochs": epochs,
        "seconds": round(time.perf_counter() - started),
        "versions": {p: importlib.metadata.version(p) for p in ("torch", "timm", "scikit-learn", "numpy")},
    }
    write_json(arguments.out / f"{recipe.name}.json", facts)
    print(f"{recipe.name}: " + ", ".join(f"{k} {v:g}" for k, v in found.items()) + f", {facts['seconds']} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
