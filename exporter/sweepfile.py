"""The file of a sweep: YAML, read with its line numbers and nothing executed.

    models: [swin_t, vit_b]
    precisions: [fp16, int8]
    batches: [1, "1:8:32"]
    targets: [sm80, "sm89,sm120"]     # one engine each
    steps: [engine, roofline, bench]
    settings: {weights: random, price: a100-80=1.8, vs: "torch,openvino"}

Scalars are taken as they are written: to YAML 1.1, ``1:8:32`` is a number to the base of 60.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter import goal, registry, request, subject
from exporter.backends import tensorrt
from exporter.errors import UsageError, nearest
from exporter.files import sha256_text
from exporter.floors import parse_prices

STEPS = ("engine", "roofline", "bench")
LISTS = ("models", "precisions", "batches", "targets", "steps")
OF_BUILD = ("weights", "image", "io", "images", "backend", "calib", "calib_images", "observer", "max_drop", "max_error",
            "min_top1_agreement", "without",
            "form")  # fmt: skip
SWITCHES = ("allow_unfused", "require_gain")
SETTINGS = (*OF_BUILD, *SWITCHES, "price", "vs", "duration", "threads")
MOST = 1000
"""Cells of one sweep."""


@dataclass(frozen=True)
class Cell:
    """One engine; ``batch`` and ``target`` are None for the defaults."""

    model: str
    precision: str
    batch: str | None
    target: str | None

    @property
    def name(self) -> str:
        """What its folder is called; cells of different names have different ones."""
        parts = (self.model, self.precision, self.batch and f"b{self.batch}", self.target)
        made = "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", p) for p in parts if p)
        plain = re.fullmatch(r"[a-z0-9_]+", self.model)
        return made if plain else f"{made}-{sha256_text(self.model)[:6]}"


@dataclass(frozen=True)
class Sweep:
    """The cells in the order of the file, what is done with each, and the settings of all."""

    name: str
    cells: tuple[Cell, ...]
    steps: tuple[str, ...]
    settings: dict[str, str]


def read(path: Path) -> Sweep:
    """The sweep of a file; :class:`UsageError` with the line of the first thing that is wrong."""
    import yaml

    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the sweep file {path} cannot be read",
            found=str(error),
            expected="a YAML file",
            next="make sweep SWEEP=<file>",
        ) from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else "?"
        raise UsageError(
            f"{path}, line {line}: this is no YAML",
            found=getattr(error, "problem", None) or str(error),
            expected="keys with lists: " + ", ".join(LISTS),
            next="see the README, Sweeps",
        ) from None
    return _Reader(path).sweep(root)


class _Reader:
    """Walks YAML nodes and knows where it is."""

    def __init__(self, path: Path):
        self.path = path

    def sweep(self, root) -> Sweep:
        fields = self.mapping(root, (*LISTS, "settings"), "a sweep") if root is not None else {}
        if "models" not in fields:
            raise self.wrong(root, "the sweep names no models", "no key 'models'", "models: [swin_t]")
        lists = {key: self.items(fields[key]) for key in LISTS if key in fields}
        models = self.checked(lists["models"], registry.recipe)
        precisions = self.checked(lists.get("precisions", []), registry.precision) or ["fp16"]
        recipe = registry.recipe(models[0])
        batches = self.checked(lists.get("batches", []), lambda text: request.parse_batch(text, recipe)) or [None]
        targets = self.checked(lists.get("targets", []), _target) or [None]
        steps = self.checked(lists.get("steps", []), _step) or ["engine"]
        cells = tuple(itertools.starmap(Cell, itertools.product(models, precisions, batches, targets)))
        if len(cells) > MOST:
            raise self.wrong(root, "the sweep is too large", f"{len(cells)} cells", f"at most {MOST}")
        return Sweep(
            self.path.stem, cells, tuple(s for s in STEPS if s in steps), self.settings(fields.get("settings"))
        )

    def settings(self, node) -> dict[str, str]:
        found = {}
        for key, value in (self.mapping(node, SETTINGS, "the settings") if node is not None else {}).items():
            found[key] = self.scalar(value)
            for check in CHECKS.get(key, ()):
                self.checked([value], check)
        return found

    def mapping(self, node, known: tuple[str, ...], what: str) -> dict[str, Any]:
        if node.id != "mapping":
            raise self.wrong(node, f"{what} is no mapping", f"a {node.id}", "keys: " + ", ".join(known))
        found = {}
        for key, value in node.value:
            name = self.scalar(key)
            if name not in known:
                raise self.wrong(key, f"there is no key {name!r} in {what}", name, nearest(name, known))
            if name in found:
                raise self.wrong(key, f"the key {name!r} is there twice", name, "once")
            found[name] = value
        return found

    def items(self, node) -> list:
        if node.id == "scalar" and node.value:
            return [node]
        if node.id != "sequence" or not node.value:
            raise self.wrong(node, "a list is missing here", f"a {node.id}" if node.value else "nothing", "[a, b]")
        return node.value

    def checked(self, nodes: list, check: Callable[[str], object]) -> list[str]:
        """The scalars, each once; what ``check`` raises gets the line."""
        found = []
        for node in nodes:
            text = self.scalar(node)
            try:
                check(text)
            except UsageError as error:
                error.what = f"{self.at(node)}: {error.what}"
                error.args = (error.what,)
                raise
            found.append(text)
        return list(dict.fromkeys(found))

    def scalar(self, node) -> str:
        if node.id != "scalar":
            raise self.wrong(node, "one value is due here", f"a {node.id}", "a word or a number")
        return node.value

    def at(self, node) -> str:
        return f"{self.path}, line {node.start_mark.line + 1}" if node is not None else str(self.path)

    def wrong(self, node, what: str, found: str, expected: str) -> UsageError:
        return UsageError(f"{self.at(node)}: {what}", found=found, expected=expected, next="see the README, Sweeps")


def _target(text: str) -> None:
    for target in text.split(","):
        if target.strip() not in (*tensorrt.RTX_TARGETS, tensorrt.NATIVE):
            known = ", ".join(tensorrt.RTX_TARGETS)
            raise UsageError(f"there is no target {target!r}", found=text, expected=known, next="targets: [sm80]")


def _step(text: str) -> None:
    if text not in STEPS:
        raise UsageError(f"there is no step {text!r}", found=text, expected=", ".join(STEPS), next="steps: [engine]")


def _switch(text: str) -> None:
    if text not in ("true", "false"):
        raise UsageError("this setting is on or off", found=text, expected="true or false", next="allow_unfused: true")


def _number(text: str) -> None:
    try:
        good = float(text) >= 0
    except ValueError:
        good = False
    if not good:
        raise UsageError("this is no number", found=text, expected="a number of at least 0", next="duration: 3")


def _against(text: str) -> None:
    for name in text.split(","):
        subject.contender(name.strip())


CHECKS: dict[str, tuple[Callable[[str], object], ...]] = {
    **dict.fromkeys(SWITCHES, (_switch,)),
    "price": (parse_prices,),
    "vs": (_against,),
    "duration": (_number,),
    "threads": (_number,),
    "observer": (request.parse_observer,),
    "form": (request.parse_form,),
    "backend": (request.parse_backend,),
    "calib_images": (request.parse_calib_images,),
    "max_drop": (lambda text: goal.parse(text, None, None),),
    "min_top1_agreement": (lambda text: goal.parse(None, text, None),),
    "max_error": (lambda text: goal.parse(None, None, text),),
}
"""Settings that can be checked before any cell is built; the others are checked by the cell that takes them."""


def words(cell: Cell, step: str, settings: dict[str, str], out: Path) -> Iterator[str]:
    """The command line of one step of a cell."""
    yield from (step, cell.model, "--precision", cell.precision, "--out", str(out), "--json")
    if step == "bench":
        yield from ("--backend", settings["backend"]) if settings.get("backend") == "tensorrt" else ()
        for key in ("vs", "duration", "threads", "weights"):
            yield from (f"--{key}", settings[key]) if key in settings else ()
        return
    for option, value in (("--batch", cell.batch), ("--target", cell.target)):
        yield from (option, value) if value else ()
    for key in OF_BUILD:
        yield from (f"--{key.replace('_', '-')}", settings[key]) if key in settings else ()
    for key in SWITCHES:
        yield from (f"--{key.replace('_', '-')}",) if settings.get(key) == "true" else ()
    if step == "roofline" and "price" in settings:
        yield from ("--price", settings["price"])
