"""What a JSON file that others wrote must hold before anything is read from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NUMBER = "a number"
"""An int or a float, or one of the words that stand for NaN and infinities in our files."""

OPTIONAL = "?"
"""Ends a key that may be absent or null."""

WORDS = {"nan", "inf", "-inf"}
ANY = "*"
"""As the only key of an expected dict: whatever the keys are."""


class Damaged(ValueError):
    """A file that is not what it should be; the text names the file and what is wrong."""


def read(path: Path, shape: dict) -> dict:
    """The object in a JSON file; :class:`Damaged` where it is none, or does not have the expected ``shape``."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise Damaged(f"{path.name} is missing") from None
    except OSError as error:
        raise Damaged(f"{path.name} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path.name} is no JSON ({error})") from None
    if why := fault(found, shape):
        raise Damaged(f"{path.name}: {why}")
    return found


def fault(value: Any, shape: Any, where: str = "") -> str:
    """What is wrong with ``value``, or ''. ``shape`` is a type, ``NUMBER``, [shape of each member] or {key: shape}."""
    name = where or "the file"
    if shape is NUMBER:
        good = (isinstance(value, (int, float)) and not isinstance(value, bool)) or value in WORDS
        return "" if good else f"{name} is no number"
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{name} is no list"
        return _first((v, shape[0], f"{where}[{i}]") for i, v in enumerate(value))
    if isinstance(shape, dict):
        return _object(value, shape, where) if isinstance(value, dict) else f"{name} is no object"
    return "" if isinstance(value, shape) else f"{name} is no {shape.__name__}"


def _object(value: dict, shape: dict, where: str) -> str:
    members = []
    for key, inner in shape.items():
        name = key.removesuffix(OPTIONAL)
        if key != ANY and name in value and not (key != name and value[name] is None):
            members.append((value[name], inner, f"{where}.{name}".lstrip(".")))
        elif key != ANY and key == name:
            return f"{where}.{name} is missing".lstrip(".")
    if ANY in shape:
        members += [(v, shape[ANY], f"{where}.{k}".lstrip(".")) for k, v in value.items()]
    return _first(members)


def _first(members) -> str:
    return next((why for member in members if (why := fault(*member))), "")
