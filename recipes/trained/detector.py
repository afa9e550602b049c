"""Training of ``detr_digits``: DETR's matching loss after every decoder layer, on scenes that no step sees twice.

Two things make a small DETR learn in minutes: batch norms that train (they are frozen when they are saved, under the
same names), and, as long as the learning rate is high, a class score of every encoder token that is thrown away.
"""

from __future__ import annotations

import numpy as np
import torch

from exporter import average_precision, detection
from exporter.types import ModuleSpec, Recipe
from recipes import detr_digits, digits

BATCH = 32
STEPS = 100
"""Steps of an epoch."""
RATE = 1e-3
WEIGHT_DECAY = 1e-4
CLIP = 1.0
TOKENS = 1.0
"""Weight of the loss of the encoder's tokens at the beginning; it falls with the learning rate."""


def prepared(recipe: Recipe) -> torch.nn.Module:
    """The recipe's module with random weights, all of which are trained, batch norms included."""
    module = recipe.build(ModuleSpec(recipe.preprocessing.size, recipe.classes))
    module.config.auxiliary_loss, module.loss_type = True, "ForObjectDetection"
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child).__name__ == "DetrFrozenBatchNorm2d":
                setattr(parent, name, torch.nn.BatchNorm2d(len(child.weight)))
    return module.requires_grad_(True).train()


def drawn(rng: np.random.Generator, count: int) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    """((count, 3, H, W) pixels, transformers' labels) of new scenes of the digits to train on."""
    part = digits.split()[0]
    pictures, truths = zip(*(detr_digits.scene(*part, rng) for _ in range(count)), strict=True)
    pixels = (torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    return pixels, [_labels(truth) for truth in truths]


def _labels(truth: average_precision.Boxes) -> dict[str, torch.Tensor]:
    """Classes and boxes as centre and size, shares of the canvas."""
    corners = torch.from_numpy(truth.corners / detr_digits.CANVAS).float()
    boxes = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
    return {"class_labels": torch.from_numpy(truth.classes), "boxes": boxes}


def token_classes(labels: list[dict[str, torch.Tensor]], side: int, none: int) -> torch.Tensor:
    """(N, side * side): the class of the digit whose box holds a token's centre, or ``none``."""
    centres = (torch.arange(side) + 0.5) / side
    found = torch.full((len(labels), side, side), none)
    for image, label in enumerate(labels):
        for kind, (x, y, width, height) in zip(label["class_labels"], label["boxes"], strict=True):
            across, down = (centres - x).abs() <= width / 2, (centres - y).abs() <= height / 2
            found[image, down[:, None] & across[None, :]] = kind
    return found.flatten(1)


def step_loss(module, tokens: torch.nn.Module, share: float, pixels: torch.Tensor, labels: list) -> torch.Tensor:
    """DETR's loss, and ``share`` of the loss of the encoder's tokens."""
    found = type(module).__mro__[1].forward(module, pixel_values=pixels, labels=labels, return_dict=True)
    memory = found.encoder_last_hidden_state
    classes = token_classes(labels, round(memory.shape[1] ** 0.5), tokens.out_features - 1)
    return found.loss + TOKENS * share * torch.nn.functional.cross_entropy(tokens(memory).transpose(1, 2), classes)


def train(
    recipe: Recipe,
    epochs: int,
    rate,
    seed: int = digits.SEED,
    said=lambda epoch, loss: None,
    batch: int = BATCH,
    steps: int = STEPS,
):
    """The trained module in eval mode, its batch norms frozen; ``rate(progress)`` is the learning rate's share."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    module = prepared(recipe)
    tokens = torch.nn.Linear(module.config.d_model, recipe.classes + 1)
    parameters = [*module.parameters(), *tokens.parameters()]
    optimiser = torch.optim.AdamW(parameters, RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step / (epochs * steps)))
    for epoch in range(epochs):
        total = 0.0
        for _ in range(steps):
            loss = step_loss(module, tokens, schedule.get_last_lr()[0] / RATE, *drawn(rng, batch))
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            optimiser.step()
            schedule.step()
            total += loss.item()
        said(epoch + 1, total / steps)
    return frozen(module, recipe)


def frozen(module, recipe: Recipe):
    """The same function as the recipe's own module, whose batch norms cannot train."""
    made = recipe.build(ModuleSpec(recipe.preprocessing.size, recipe.classes))
    made.load_state_dict(recipe.adapt(module.state_dict(), made))
    return made.eval()


def precision(module, recipe: Recipe, count: int | None = None) -> average_precision.Precision:
    """Average precision on the held-out scenes, or the first ``count``."""
    rows = [row for row, _ in zip(recipe.held_out(recipe), range(count or detr_digits.SCENES), strict=False)]
    pixels, truths = zip(*rows, strict=True)
    height, width = recipe.preprocessing.size
    answers = []
    with torch.no_grad():
        for part in torch.from_numpy(np.stack(pixels)).split(BATCH):
            logits, boxes = (output.numpy() for output in module(part))
            outputs = zip(logits, boxes, strict=True)
            answers += [detection.boxes({"logits": a, "boxes": b}, (width, height)) for a, b in outputs]
    return average_precision.average_precision(answers, truths)
