"""What the key of rewritten graphs is made from: every module that a rewrite stands on."""

import ast
import importlib.util
from pathlib import Path

import pytest

import exporter.rewrites
from exporter.stages import rewrite

REWRITES = sorted(p.stem for p in Path(exporter.rewrites.__file__).parent.glob("[a-z]*.py"))
PACKAGES = {"exporter", "exporter.rewrites", "exporter.backends"}
HARMLESS = {*PACKAGES, "exporter.types", "exporter.errors", "exporter.naming"}
"""Types, messages, names: what comes out does not depend on their text."""


def imported(module: str) -> set[str]:
    """The modules of ours that a module imports."""
    tree = ast.parse(Path(importlib.util.find_spec(module).origin).read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "exporter":
            found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.startswith("exporter.")}
    return {name for name in found if _is_module(name)} - HARMLESS


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("name", REWRITES)
def test_a_change_of_what_a_rewrite_stands_on_changes_the_key(name):
    needed, waiting = set(), {f"exporter.rewrites.{name}"}
    while waiting:
        module = waiting.pop()
        new = imported(module) - needed
        needed |= new
        waiting |= new
    assert needed <= {*rewrite.CODE, f"exporter.rewrites.{name}"}
