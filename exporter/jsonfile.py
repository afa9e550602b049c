"""What a JSON file that others wrote must hold before anything is read from it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

NUMBER = "a number"
"""An int or a float, or one of the words that stand for NaN and infinities in our files."""

FINITE = "a finite number"

SIZE = "a size"
"""An int of at least 1 that 31 bits hold."""

AXIS = "an axis"
"""A size, or the name of an axis that is free; None for one without a name."""

LINE = "a line of text"
"""Printable text without an end of line: it may stand in a command, a comment or a table."""

SHA256 = "a SHA-256"
"""64 hexadecimal digits."""

OPTIONAL = "?"
"""Ends a key that may be absent or null."""

WORDS = {"nan", "inf", "-inf"}
ANY = "*"
"""As the only key of an expected dict: whatever the keys are."""


def words(value: Any) -> Any:
    """``value`` with NaN and infinities, at any depth, as words that ``float`` reads: JSON has no numbers for them."""
    if isinstance(value, dict):
        return {key: words(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [words(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


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
    """What is wrong with ``value``, or ''.

    ``shape`` is a type, one of the words above (``NUMBER``, ``LINE``...), [shape of each member], (shape of the
    first, of the second), (shape of each of one or more, ...), {one of these texts} or {key: shape}.
    """
    name = where or "the file"
    if isinstance(shape, str):
        return "" if GOOD[shape](value) else f"{name} is no {shape.split(' ', 1)[1]}"
    if isinstance(shape, set):
        good = isinstance(value, str) and value in shape
        return "" if good else f"{name} is none of {', '.join(sorted(shape))}"
    if isinstance(shape, tuple) and shape[-1] is ...:
        shown = value if isinstance(value, list) else []
        return fault(value, [shape[0]], where) if shown else f"{name} is no list of one or more"
    if isinstance(shape, tuple):
        if not isinstance(value, list) or len(value) != len(shape):
            return f"{name} is no list of {len(shape)}"
        return _first((v, one, f"{where}[{i}]") for i, (v, one) in enumerate(zip(value, shape, strict=True)))
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{name} is no list"
        return _first((v, shape[0], f"{where}[{i}]") for i, v in enumerate(value))
    if isinstance(shape, dict):
        return _object(value, shape, where) if isinstance(value, dict) else f"{name} is no object"
    good = isinstance(value, shape) and not (shape is int and isinstance(value, bool))
    return "" if good else f"{name} is no {shape.__name__}"


def _is_number(value: Any) -> bool:
    return (isinstance(value, (int, float)) and not isinstance(value, bool)) or (
        isinstance(value, str) and value in WORDS
    )


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _is_finite(value: Any) -> bool:
    return _is_number(value) and not isinstance(value, str) and math.isfinite(value)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 1 << 31


def _is_axis(value: Any) -> bool:
    return value is None or _is_size(value) or (isinstance(value, str) and value.isidentifier())


GOOD = {AXIS: _is_axis, NUMBER: _is_number, FINITE: _is_finite, SIZE: _is_size, LINE: _is_line, SHA256: _is_sha256}


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
