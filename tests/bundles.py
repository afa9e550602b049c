"""Bundles made by hand, with the cached stages that a report reads; nothing is built."""

import copy
import json

import numpy as np

from exporter import SCHEMA, arrays, samples
from exporter.files import sha256_file
from exporter.types import Batch

BATCH = Batch(1, 2, 5)
LADDER = ("torch/raw", "raw/rewritten", "rewritten/typed", "torch/typed")
NO_GPU = "no CUDA driver on this machine (libcuda.so.1 cannot be loaded)"
RUNG = {"status": "passed", "why": "", "max_abs": 1e-3, "relative_max": 1e-3, "cosine": 0.9999, "top1_agreement": 1.0,
        "samples": 9, "tolerance": {"relative_max": 0.02, "cosine": 0.999}}  # fmt: skip


def tensor(name, *shape):
    """A model's input or output of one batch of ``shape``, as the manifest has it."""
    return {"name": name, "dtype": "float32", "shape": ["batch", *shape]}


MANIFEST = {
    "schema": SCHEMA,
    "status": "passed",
    "failures": [],
    "model": "toy",
    "paper": "Toy et al. 2026",
    "precision": "fp16",
    "weights": {"kind": "random", "source": "random, seed 0", "sha256": "a" * 64, "why": "asked for", "classes": 10},
    "inputs": [tensor("pixels", 3, 64, 64)],
    "outputs": [tensor("logits", 10)],
    "preprocessing": {"size": [64, 64], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic",
                      "crop_pct": 0.9, "mode": "crop"},
    "batch": {"min": BATCH.min, "opt": BATCH.opt, "max": BATCH.max},
    "rewrites": [{"name": "fold_constants", "matches": 3, "nodes_before": 9, "nodes_after": 6, "max_abs_error": 0.0},
                 {"name": "remove_guards", "matches": 0, "nodes_before": 6, "nodes_after": 6, "max_abs_error": None}],
    "refused": {},
    "attention_form": {"name": "positions_packed", "why": "by rule"},
    "without": [],
    "kept_fp32": {"head/ReduceMean_3": "ReduceMean sums or powers in FP32"},
    "near_the_limit": {},
    "onnx": {"sha256": "b" * 64, "bytes": 2_000_000, "nodes": 6, "external_data": {}},
    "engine": {"sha256": "c" * 64, "bytes": 3_000_000, "backend": "tensorrt-rtx", "backend_version": "1.7",
               "targets": ["sm80", "sm89"]},
    "kernels": {target: {"count": 2, "fused_attention": 1, "bytes_moved": 5e6, "flops": 7e9, "batch": 2, "chip": chip,
                         "roofline_us": floor} for target, chip, floor in (("sm80", "A100", 3.0), ("sm89", "L4", 9.0))},
    "unfused_attention": [],
    "parity": dict.fromkeys(LADDER, RUNG)
    | {"typed/engine": {"status": "not run", "why": NO_GPU, "samples": 0, "tolerance": None}},
    "versions": {"torch": "2.14.1", "onnx": "1.23.2"},
    "stages": {name: f"{name}-key" for name in ("reference", "typed_parity", "trace", "rewrite")},
    "command": "python -m exporter engine toy --weights random",
}  # fmt: skip

KERNELS = {
    "batch_at_opt": 2,
    "kernels": [{"name": "_gemm_mha_v2"}, {"name": "__myl_Fc"}],
    "at_opt": [
        {"name": "_gemm_mha_v2", "kind": "attention", "block": "blocks.0", "bytes": 4_000_000, "flops": 5_000_000,
         "nodes": ["blocks.0.attn/MatMul_1", "blocks.0.attn/Softmax_2"]},
        {"name": "__myl_Fc", "kind": "matmul", "block": "head", "bytes": 1_000_000, "flops": 2_000_000,
         "nodes": ["head/Gemm_5"]},
    ],
}  # fmt: skip


def manifest(**changes) -> dict:
    """The manifest of a build that passed, with some fields changed; a dict is merged into a dict."""
    made = copy.deepcopy(MANIFEST)
    for key, value in changes.items():
        made[key] = made[key] | value if isinstance(value, dict) and isinstance(made.get(key), dict) else value
    return made


def write(out, name="fp16", *, model="toy", cache=True, kernels=KERNELS, error=1e-3, noise=True, **changes):
    """A bundle in ``out/<model>/<name>``, and its stages ``reference`` and ``typed_parity`` in the cache."""
    precision = name.removesuffix(".failed")
    stages = {"reference": "reference-key", "typed_parity": f"typed-{name}"}
    record = manifest(**{"model": model, "precision": precision, "stages": stages} | changes)
    folder = out / model / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(record))
    if kernels is not None:
        (folder / "kernels.json").write_text(json.dumps(kernels))
    if cache:
        stages_of(out, record, error, noise)
    return folder


def stages_of(out, record, error, noise=True) -> None:
    """What the parity stages leave: eight samples, and ``typed`` answers that are ``error`` off in one place each."""
    files = samples.paths(None)
    names = [path.name for path in files] + [f"noise {i}" for i in range(samples.NOISE_ROWS)]
    rng = np.random.default_rng(0)
    shapes = {"logits": (10,), "boxes": (4,)}
    if len(record["outputs"]) > 1:
        shapes = {"logits": (7, 10), "boxes": (7, 4)}
    expected = {o["name"]: rng.standard_normal((len(names), *shapes[o["name"]]), np.float32) for o in record["outputs"]}
    typed = []
    for rows in samples.schedule(len(names), BATCH, noise):
        batch = {name: value[rows].copy() for name, value in expected.items()}
        for value in batch.values():
            value.reshape(len(rows), -1)[:, 0] += error * (1 + rows)  # the last sample, of noise, is the worst
        typed.append(batch)

    def entry(stage, file, save, **record_of):
        folder = out / ".cache" / stage / record["stages"][stage]
        folder.mkdir(parents=True, exist_ok=True)
        save(folder / file)
        facts = {file: {"sha256": sha256_file(folder / file), "bytes": (folder / file).stat().st_size}}
        entry = {"files": facts, "meta": {}, "parts": {}, "seconds": 0.0} | record_of
        (folder / "entry.json").write_text(json.dumps(entry))

    entry("reference", "reference.npz", lambda path: np.savez(path, **expected), meta={"samples": names},
          parts={"images": samples.fingerprint(files)})  # fmt: skip
    entry("typed_parity", "typed.npz", lambda path: arrays.write(path, typed))


def depth(folder, **errors) -> None:
    """A ``depth.json`` for the bundle in ``folder``: an error for each block."""
    onnx = json.loads((folder / "manifest.json").read_text())["onnx"]["sha256"]
    rows = [{"block": b.replace("_", "."), "unit": b, "error": e, "own": 1e-4} for b, e in errors.items()]
    record = {"onnx": onnx, "images": ["chelsea.png"], "blocks": rows, "missing": []}
    (folder / "depth.json").write_text(json.dumps(record))
