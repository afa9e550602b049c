"""NVIDIA Model Optimizer's ONNX quantisation, in an environment of its own (``make modelopt``): its pins are others.

https://github.com/NVIDIA/Model-Optimizer, ``python -m modelopt.onnx.quantization``, with its defaults (8-bit products,
FP16 around them, Q/DQ where it holds that TensorRT fuses) on the exported graph, calibrated on the CPU.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx

from exporter.errors import UsageError

HOME = Path(__file__).parents[1] / ".modelopt"
METHODS = ("max", "entropy")


def interpreter() -> Path:
    """The Python that has it, ``MODELOPT_PYTHON`` or that of ``.modelopt``; :class:`UsageError` where there is none."""
    found = Path(os.environ.get("MODELOPT_PYTHON", HOME / "bin" / "python")).absolute()
    if not found.is_file():
        raise UsageError(
            "Model Optimizer is not installed", found=f"no {found}", expected="a Python with nvidia-modelopt[onnx]",
            next="make modelopt   or   MODELOPT_PYTHON=<that Python>",
        )  # fmt: skip
    return found


def quantized(raw: Path, method: str, rows: np.ndarray, out: Path) -> onnx.ModelProto:
    """The graph ``raw`` in INT8, calibrated on ``rows`` (S, 3, H, W); CalledProcessError where it gives up."""
    np.save(out / "rows.npy", rows)
    made = out / f"modelopt_{method}.onnx"
    words = [interpreter(), "-m", "modelopt.onnx.quantization", "--onnx_path", raw, "--quantize_mode", "int8",
             "--calibration_method", method, "--calibration_data_path", out / "rows.npy", "--calibration_eps", "cpu",
             "--output_path", made, "--log_level", "ERROR"]  # fmt: skip
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": ""}
    subprocess.run(list(map(str, words)), check=True, capture_output=True, cwd=out, env=environment)
    return onnx.load(made)
