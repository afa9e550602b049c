"""``MODEL=path/to/my_recipe.py``: a recipe that lives outside of this repository.

The file is Python and is run as such; it holds one :class:`~exporter.types.Recipe` as ``RECIPE``.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

from exporter import modules
from exporter.errors import ExporterError, UsageError
from exporter.sources import _common as common
from exporter.types import Recipe

SUFFIX = ".py"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def recipe(path: str) -> Recipe:
    """The recipe of a file; :class:`UsageError` names what is wrong with it, and the line."""
    file = Path(os.path.expanduser(path))
    hint = "the README's section 'Your own module'"
    if not file.is_file():
        raise common.unusable(path, "no such file", "a Python file with a RECIPE", hint)
    found = getattr(_run(file), "RECIPE", None)
    if not isinstance(found, Recipe):
        what = "no RECIPE" if found is None else f"RECIPE is a {type(found).__name__}"
        raise common.unusable(path, what, "RECIPE = exporter.types.Recipe(...)", hint)
    from exporter import registry

    if not NAME.fullmatch(found.name) or found.name in registry.recipes():
        why = f"its name {found.name!r} is taken" if found.name in registry.recipes() else f"its name is {found.name!r}"
        raise common.unusable(path, why, "a name of letters, digits and ._- that no recipe has", hint)
    return replace(found, origin=found.origin + file.read_text())


def _run(file: Path):
    name = f"recipe_of_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ExporterError:
        raise
    except Exception as error:
        raise UsageError(
            f"{file} cannot be run",
            found=f"{type(error).__name__}: {modules.first(error)}{_line(error)}",
            expected="a Python file with a RECIPE",
            next=f"python {file}",
        ) from None
    return module


def _line(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})"
    return modules.line(error)
