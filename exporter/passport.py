"""A bundle by its passport: the manifest is read, its files are hashed, and nothing is used that does not match."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter import SCHEMA, jsonfile, registry
from exporter.errors import CheckFailed, UsageError
from exporter.files import sha256_file
from exporter.jsonfile import ANY, AXIS, FINITE, LINE, NUMBER, SHA256, SIZE, Damaged
from exporter.types import Preprocessing

ONNX, ENGINE = "model.onnx", "model.engine"

RUNG = {"status": str, "why": str, "relative_max?": NUMBER, "cosine?": NUMBER, "top1_agreement?": NUMBER,
        "samples?": int, "tolerance?": {"relative_max": NUMBER}}  # fmt: skip
CROSS = {"from_onnxruntime?": NUMBER, "alike?": int, "share?": NUMBER, "box?": NUMBER, "pixels?": NUMBER}
SCORE = {"kernels?": int, "fused?": int, "due?": int, "bytes_moved?": NUMBER, "floor_us?": NUMBER,
         "total_us?": NUMBER, "refused?": str}  # fmt: skip
SEARCH = {"left": [str], "drop": NUMBER, "relative_max": NUMBER, "saved_us": NUMBER, "own?": NUMBER}
AGAINST = {"base": str, "winner": str, "gain": NUMBER, "batch": int, "rows": {ANY: SCORE}, "left": [str],
           "goal": str, "search": [SEARCH]}  # fmt: skip
MEASURED = {"drop": NUMBER, "relative_max": NUMBER}
ISLANDS = {"goal": str, "images": int, "kept": [str], "before": MEASURED, "after": MEASURED,
           "ranked": [{"block": str, "error": NUMBER, "recovered": NUMBER, "kernels": int, "bytes": NUMBER,
                       "us": NUMBER}]}  # fmt: skip
TENSOR = {"name": LINE, "dtype": {"float32", "float16", "bfloat16", "int32", "int64"}, "shape": (AXIS, ...)}
MANIFEST = {
    "status": str,
    "failures": [{"what": str, "found?": str}],
    "model": LINE,
    "paper": str,
    "precision": LINE,
    "weights": {"kind": str, "source": str, "sha256": str, "classes": SIZE, "why?": str,
                "resampled?": [str]},
    "inputs": (TENSOR, ...),
    "outputs": (TENSOR, ...),
    "preprocessing": {"size": (SIZE, SIZE), "mean": (FINITE,) * 3, "std": (FINITE,) * 3,
                      "interpolation": LINE, "crop_pct": FINITE, "mode": LINE,
                      "frames?": SIZE},
    "batch": {"min": SIZE, "opt": SIZE, "max": SIZE},
    "rewrites": [{"name": str, "matches": int, "nodes_before": int, "nodes_after": int,
                  "max_abs_error?": NUMBER}],
    "refused": {ANY: str},
    "attention_form": {"name": str, "why": str},
    "without": [str],
    "kept_fp32": {ANY: str},
    "near_the_limit": {ANY: str},
    "onnx": {"sha256": SHA256, "bytes": int, "nodes": int, "external_data": {ANY: SHA256}},
    "engine": {"sha256": SHA256, "bytes": int, "backend": LINE, "backend_version": LINE, "targets": [LINE]},
    "kernels": {ANY: {"count": int, "fused_attention": int, "bytes_moved": NUMBER, "flops": NUMBER, "batch": int,
                      "chip": str, "roofline_us?": NUMBER}},
    "unfused_attention": [str],
    "parity": {ANY: RUNG},
    "quantized?": [str],
    "left_in_16_bit?": {ANY: str},
    "calibration?": {"source": str, "images": int, "method": str, "skipped": int},
    "against_base?": AGAINST,
    "islands?": ISLANDS,
    "cross_runtime?": {ANY: RUNG | CROSS},
    "versions": {ANY: str},
    "stages": {ANY: str},
    "command": str,
}  # fmt: skip
"""What every manifest holds; members beyond these are free."""


@dataclass(frozen=True)
class Passport:
    """A folder whose files are those of its manifest."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def preprocessing(self) -> Preprocessing:
        """How a photograph becomes the model's input."""
        return preprocessing(self.manifest)

    @property
    def detects(self) -> bool:
        """Whether the model answers boxes."""
        return detects(self.manifest)


def detects(manifest: dict[str, Any]) -> bool:
    """Whether the model of a manifest answers boxes."""
    return {"logits", "boxes"} <= {output["name"] for output in manifest["outputs"]}


def preprocessing(manifest: dict[str, Any]) -> Preprocessing:
    """How a photograph becomes the model's input, as a manifest has it."""
    said = manifest["preprocessing"]
    triples = {key: tuple(float(n) for n in said[key]) for key in ("mean", "std")}
    rest = {key: said[key] for key in ("interpolation", "crop_pct", "mode")} | {"frames": said.get("frames", 0)}
    return Preprocessing(size=tuple(said["size"]), **triples, **rest)


def read(folder: Path) -> Passport:
    """The bundle in ``folder``; :class:`UsageError` where it is none, of another version, or its files are others."""
    rebuild = "make engine MODEL=<model> PRECISION=<precision>"
    if not (folder / "manifest.json").exists():
        raise UsageError(
            f"{folder} is no bundle", found="no manifest.json", expected="a folder that make engine left", next=rebuild
        )
    try:
        manifest = jsonfile.read(folder / "manifest.json", {"schema": int, "model": LINE, "precision": LINE})
        model = manifest["model"]
        rebuild = f"make engine MODEL={model} PRECISION={manifest['precision']}"
        if manifest["schema"] != SCHEMA:
            raise UsageError(
                "the bundle is of another version of the tool", model=model, found=f"schema {manifest['schema']}",
                expected=f"schema {SCHEMA}", next=rebuild,
            )  # fmt: skip
        manifest = jsonfile.read(folder / "manifest.json", MANIFEST)
        _check_names(folder, manifest)
        _check_sense(manifest)
    except Damaged as error:
        raise UsageError(
            f"the manifest of {folder} cannot be read", found=str(error), expected="the one make engine wrote",
            next=rebuild,
        ) from None  # fmt: skip
    files = {ONNX: manifest["onnx"]["sha256"], ENGINE: manifest["engine"]["sha256"]}
    for name, expected in (files | manifest["onnx"]["external_data"]).items():
        path = folder / name
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


def _check_names(folder: Path, manifest: dict[str, Any]) -> None:
    """:class:`Damaged` for words of a manifest that become names of files and are none of ours."""
    if manifest["precision"] not in registry.precisions():
        raise Damaged(f"precision is {manifest['precision']!r}, not one of {', '.join(registry.precisions())}")
    for name in manifest["onnx"]["external_data"]:
        plain = Path(name).name == name and name.startswith(f"{ONNX}.")
        if not plain or not (folder / name).is_file() or (folder / name).is_symlink():
            raise Damaged(f"onnx.external_data names {name!r}, which is no file of the bundle")


def _check_sense(manifest: dict[str, Any]) -> None:
    """:class:`Damaged` for a manifest whose batch or preprocessing no build has."""
    batch = manifest["batch"]
    try:
        how = preprocessing(manifest)
    except UsageError as error:
        raise Damaged(f"{error.what}: {error.found}") from None
    if not batch["min"] <= batch["opt"] <= batch["max"]:
        raise Damaged(f"batch is {batch['min']}:{batch['opt']}:{batch['max']}, not MIN:OPT:MAX in rising order")
    first, *rest = manifest["inputs"][0]["shape"]
    if tuple(rest) != how.shape:
        raise Damaged(f"preprocessing makes {how.shape} of an image, the input takes {rest}")
    if isinstance(first, int) and not batch["min"] == batch["max"] == first:
        raise Damaged(f"the input's batch is {first}, the profile's {batch['min']} to {batch['max']}")


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
