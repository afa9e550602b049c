"""A bundle by its passport: the manifest is read, its files are hashed, and nothing is used that does not match."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter import SCHEMA
from exporter.errors import CheckFailed, UsageError
from exporter.files import sha256_file
from exporter.types import Preprocessing

ONNX, ENGINE = "model.onnx", "model.engine"


@dataclass(frozen=True)
class Passport:
    """A folder whose files are those of its manifest."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def preprocessing(self) -> Preprocessing:
        """How a photograph becomes the model's input."""
        said = self.manifest["preprocessing"]
        triples = {key: tuple(float(n) for n in said[key]) for key in ("mean", "std")}
        rest = {key: said[key] for key in ("interpolation", "crop_pct", "mode")}
        return Preprocessing(size=tuple(said["size"]), **triples, **rest)

    @property
    def detects(self) -> bool:
        """Whether the model answers boxes."""
        return {"logits", "boxes"} <= {output["name"] for output in self.manifest["outputs"]}


def read(folder: Path) -> Passport:
    """The bundle in ``folder``; :class:`UsageError` where it is none, of another version, or its files are others."""
    rebuild = "make engine MODEL=<model> PRECISION=<precision>"
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        schema, model, precision = (manifest[key] for key in ("schema", "model", "precision"))
    except FileNotFoundError:
        raise UsageError(
            f"{folder} is no bundle", found="no manifest.json", expected="a folder that make engine left", next=rebuild
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"the manifest of {folder} cannot be read", found=str(error), expected="the one make engine wrote",
            next=rebuild,
        ) from None  # fmt: skip
    rebuild = f"make engine MODEL={model} PRECISION={precision}"
    if schema != SCHEMA:
        raise UsageError(
            "the bundle is of another version of the tool", model=model, found=f"schema {schema}",
            expected=f"schema {SCHEMA}", next=rebuild,
        )  # fmt: skip
    for name, kind in ((ONNX, "onnx"), (ENGINE, "engine")):
        expected, path = manifest[kind]["sha256"], folder / name
        found = sha256_file(path) if path.is_file() else "no such file"
        if found != expected:
            raise UsageError(
                f"{name} is not the one that the manifest describes",
                model=model,
                found=found[:12],
                expected=f"sha256 {expected[:12]}",
                next=rebuild,
            )
    return Passport(folder, manifest)


def fit_to_serve(bundle: Passport, stage: str, allow_random: bool = False) -> None:
    """:class:`UsageError` for random weights that nobody allowed, :class:`CheckFailed` for a bundle that failed one."""
    manifest = bundle.manifest
    make = f"make engine MODEL={manifest['model']} PRECISION={manifest['precision']}"
    if manifest["weights"]["kind"] == "random" and not allow_random:
        raise UsageError(
            "the bundle's weights are random: it answers nothing useful",
            model=manifest["model"],
            stage=stage,
            found=manifest["weights"]["source"],
            expected="trained weights",
            next=f"{make} WEIGHTS=<a checkpoint>   or   ALLOW_RANDOM=1",
        )
    if manifest["status"] != "passed":
        raise CheckFailed(
            "the bundle failed a check",
            model=manifest["model"],
            stage=stage,
            found="; ".join(failure["what"] for failure in manifest["failures"]) or manifest["status"],
            expected="a bundle that passed",
            next=make,
        )
