"""``model_info.hpp``: a bundle's manifest as C++, for the programs of ``deploy/cpp``.

The header holds facts and no code: hashes, backend, version and compute capabilities, tensors, profile, preprocessing,
labels, and the command that makes the engine again. The engine itself stays where it is.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from exporter import passport
from exporter.backends.tensorrt import RTX_TARGETS
from exporter.errors import UsageError
from exporter.files import unwritable, write_atomically
from exporter.passport import ENGINE, Passport

HEADER = "model_info.hpp"


def write(folder: Path, into: Path, allow_random: bool = False) -> dict[str, Any]:
    """Write the header of the bundle in ``folder`` into the folder ``into``; returns both paths and what it detects.

    Raises :class:`UsageError` for a bundle that is damaged, has random weights or tensors that the loader does not
    take, :class:`CheckFailed` for one that failed a check.
    """
    bundle = passport.read(folder)
    passport.fit_to_serve(bundle, "cpp", allow_random)
    if bundle.preprocessing.frames:
        raise UsageError(
            "the C++ programs take one picture at a time",
            model=bundle.manifest["model"],
            stage="cpp",
            found=f"clips of {bundle.preprocessing.frames} frames",
            expected="a model of images",
            next=f"make triton MODEL={bundle.manifest['model']} PRECISION={bundle.manifest['precision']}",
        )
    text = header(bundle)
    try:
        into.mkdir(parents=True, exist_ok=True)
        write_atomically(into / HEADER, text)
    except OSError as error:
        raise unwritable(into, error, "INTO") from None
    return {
        "model": bundle.manifest["model"],
        "header": str(into / HEADER),
        "engine": str(folder / ENGINE),
        "program": "detect" if bundle.detects else "classify",
    }


def header(bundle: Passport) -> str:
    """The text of ``model_info.hpp``; fields in the order of ``vit::ModelInfo``."""
    from exporter import labels

    manifest, how = bundle.manifest, bundle.preprocessing
    engine, batch = manifest["engine"], manifest["batch"]
    fields = {
        "model": _text(manifest["model"]),
        "precision": _text(manifest["precision"]),
        "backend": _text(engine["backend"]),
        "backend_version": _text(engine["backend_version"]),
        "targets": _list(map(_text, engine["targets"])),
        "rtx_targets": _list(map(_text, RTX_TARGETS)),
        "engine_sha256": _text(engine["sha256"]),
        "engine_bytes": str(engine["bytes"]),
        "batch": _list(str(batch[key]) for key in ("min", "opt", "max")),
        "inputs": _list(map(_tensor, manifest["inputs"])),
        "outputs": _list(map(_tensor, manifest["outputs"])),
        "preprocessing": _list([
            str(how.size[0]), str(how.size[1]), _triple(how.mean), _triple(how.std), _text(how.interpolation),
            repr(float(how.crop_pct)), _text(how.mode),
        ]),
        "labels": _list(map(_text, labels.of(manifest))),
        "rebuild": _text(_make(manifest)),
    }  # fmt: skip
    body = "\n".join(f"        {value},  // {name}" for name, value in fields.items())
    return f"""\
// {manifest["model"]} {manifest["precision"]}, from the bundle's manifest. Written by make cpp: do not edit.
#pragma once

#include "vit/model.hpp"

inline const vit::ModelInfo& model_info() {{
    static const vit::ModelInfo info{{
{body}
    }};
    return info;
}}
"""


def _make(manifest: dict) -> str:
    """The command that makes the engine again; where it depends on this machine, the C++ side adds the knob."""
    made = f"make engine MODEL={shlex.quote(manifest['model'])} PRECISION={manifest['precision']}"
    if manifest["weights"]["kind"] == "checkpoint":
        made += f" WEIGHTS={shlex.quote(os.path.basename(manifest['weights']['source']))}"
    return made


def _tensor(tensor: dict) -> str:
    return _list([_text(tensor["name"]), _text(tensor["dtype"]), _list(map(str, tensor["shape"][1:]))])


def _triple(values: tuple[float, ...]) -> str:
    """Three FP32 numbers, each by the shortest digits that give it back; ``std::array`` in one pair of braces."""
    return _list(f"{np.float32(value)!s}F" for value in values)


def _list(values) -> str:
    return "{" + ", ".join(values) + "}"


def _text(text: str) -> str:
    """A C++ string literal of the text's UTF-8 bytes; what is not plain ASCII is written in three octal digits."""
    plain = set(range(0x20, 0x7F)) - set(b'"\\?')
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + '"'
