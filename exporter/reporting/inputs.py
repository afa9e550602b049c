"""What a bundle was made from and does not hold: its weights and its photographs, found again and checked.

They are looked for where the command in the manifest says, or where the user says they are now; a hash tells whether
they are the same.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from exporter import samples
from exporter.errors import UsageError
from exporter.files import as_knob
from exporter.reporting.published import Published, entry
from exporter.store import Entry
from exporter.types import Recipe
from exporter.weights import Weights, locate


@dataclass(frozen=True)
class Words:
    """``--weights`` and ``--images`` of ``report``; None is what the manifest's command says."""

    weights: str | None = None
    images: str | None = None


def option(command: str, name: str) -> str | None:
    """The value of ``--name`` in a recorded command, or None."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    for i, word in enumerate(words):
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
        if word == f"--{name}" and i + 1 < len(words):
            return words[i + 1]
    return None


def weights(recipe: Recipe, bundle: Published, words: Words) -> Weights:
    """The weights of the build; :class:`UsageError` where they cannot be had or are others now."""
    wanted = bundle.manifest["weights"]
    kinds = {"random": "random", "pretrained": "pretrained"}
    where = words.weights or kinds.get(wanted["kind"]) or option(bundle.manifest["command"], "weights")
    if where is None:
        raise _missing(bundle, "weights", "the manifest does not say where they were", wanted["source"])
    found = locate(recipe, where)
    if found.sha256 != wanted["sha256"]:
        raise _missing(bundle, "weights", f"{found.source}, sha256 {found.sha256[:12]}", f"{wanted['sha256'][:12]}")
    return found


def photographs(out: Path, bundle: Published, words: Words) -> list[Path]:
    """The photographs of the build, in its order, none where it ran on images of the recipe's own.

    Raises :class:`UsageError` where they are others now.
    """
    stage = entry(out, bundle, "reference")
    if not isinstance(stage, Entry):
        raise _missing(bundle, "images", stage, "the cached stage reference")
    if stage.memory["parts"].get("images") == samples.fingerprint([]):
        return []
    folder = words.images or option(bundle.manifest["command"], "images")
    files = samples.paths(Path(os.path.expanduser(folder)) if folder else None)
    if samples.fingerprint(files) != stage.memory["parts"].get("images"):
        names = [name for name in stage.meta["samples"] if not is_noise(name)]
        raise _missing(bundle, "images", f"others in {folder or 'scikit-image'}", ", ".join(names[:6]))
    return files


def is_noise(sample: str) -> bool:
    """Whether a sample's name is that of a row of noise."""
    head, _, number = sample.partition(" ")
    return head == "noise" and number.isdigit()


def _missing(bundle: Published, what: str, found: str, expected: str) -> UsageError:
    model, knob, out = bundle.manifest["model"], what.upper(), as_knob(bundle.out)
    return UsageError(
        f"the {what} that {bundle.name} was built with are not there",
        model=model,
        stage="report",
        found=found,
        expected=expected,
        next=f"make report MODEL={model} {knob}=<where they are>{out}   or   make engine MODEL={model}{out}",
    )
