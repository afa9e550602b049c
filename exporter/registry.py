"""Finds what is there by looking at the files: recipes, precisions.

Adding a model family or a precision is adding one file; nothing has to be registered anywhere.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
from pathlib import Path
from types import ModuleType

from exporter.errors import UsageError, nearest
from exporter.types import Precision, Recipe, safe_name


def _modules(package: str) -> list[ModuleType]:
    parent = importlib.import_module(package)
    names = sorted(m.name for m in pkgutil.iter_modules(parent.__path__) if not m.name.startswith("_"))
    return [importlib.import_module(f"{package}.{name}") for name in names]


@functools.cache
def recipes() -> dict[str, Recipe]:
    """Every recipe by name, in the order of the files and of their ``RECIPES`` tuples."""
    found: dict[str, Recipe] = {}
    for module in _modules("recipes"):
        for recipe in getattr(module, "RECIPES", ()):
            if recipe.name in found:
                raise UsageError(
                    f"two recipes are called {recipe.name!r}",
                    found=f"{recipe.name} in {module.__name__} and in the family {found[recipe.name].family}",
                    expected="one recipe a name",
                    next=f"rename one of them in {module.__file__}",
                )
            found[recipe.name] = recipe
    return found


@functools.cache
def precisions() -> dict[str, Precision]:
    """Every precision by name."""
    return {m.PRECISION.name: m.PRECISION for m in _modules("exporter.precisions") if hasattr(m, "PRECISION")}


def recipe(name: str) -> Recipe:
    """The recipe called ``name``, or what ``name`` says of another source (:mod:`exporter.sources`).

    An unknown name is a :class:`UsageError` with the nearest ones.
    """
    if name in recipes():
        return recipes()[name]
    prefix, colon, rest = name.partition(":")
    if name.endswith(".py"):
        return importlib.import_module("exporter.sources.file").recipe(name)
    if colon and rest and prefix in sources():
        return importlib.import_module(f"exporter.sources.{prefix}").recipe(rest)
    near = nearest(name, recipes())
    others = ", ".join(f"{source}:NAME" for source in sources())
    raise UsageError(
        f"there is no recipe for the model {name!r}",
        found=name,
        expected=f"a recipe's name, such as {near}; or {others}, or a file.py",
        next=f"make engine MODEL={near.split(', ')[0]}    (make list shows them all)",
    )


def folder(name: str) -> str:
    """What a model's folder in OUT is called; a file's recipe is asked for its own name."""
    return recipe(name).folder if name.endswith(".py") else safe_name(name)


def sources() -> list[str]:
    """The prefixes of models from other libraries."""
    package = importlib.import_module("exporter.sources")
    names = sorted(m.name for m in pkgutil.iter_modules(package.__path__))
    return [name for name in names if not name.startswith("_") and name != "file"]


def precision(name: str) -> Precision:
    """The precision called ``name``; an unknown name is a :class:`UsageError` with the known ones."""
    try:
        return precisions()[name.lower()]
    except KeyError:
        known = ", ".join(precisions())
        raise UsageError(
            f"there is no precision {name!r}",
            found=name,
            expected=known,
            next=f"PRECISION={nearest(name.lower(), precisions()).split(', ')[0]}",
        ) from None


@functools.cache
def source(module: str) -> str:
    """The source text of a module of ours, without importing it: what a stage's cache key must change with."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    return Path(spec.origin).read_text()


def recipe_source(item: Recipe) -> str:
    """The source text that makes ``item``: its family's file, its module's where that is ours, and the shared helpers.

    For a recipe from another source it is what that was made from, and the source's own file.
    """
    if item.origin:
        here = item.name.partition(":")[0]
        return item.origin + source(f"exporter.sources.{here if here in sources() else 'file'}")
    folder = Path(importlib.import_module("recipes").__path__[0])
    helpers = sorted(p.stem for p in folder.glob("_*.py") if p.stem != "__init__")
    own = [f"modules.{item.family}"] if (folder / "modules" / f"{item.family}.py").is_file() else []
    return "\n".join(source(f"recipes.{name}") for name in (item.family, *own, *helpers))
