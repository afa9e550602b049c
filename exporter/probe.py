"""The range probe: the smallest and largest value of every tensor of a graph over real images, and its headroom.

ONNX Runtime reduces every tensor inside the run (a ReduceMin and a ReduceMax beside each), so the tensors
themselves, a gigabyte an image for large models, are never kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

from exporter import onnxio
from exporter.shapes import infer

BATCH = 4
LIMITS = {kind: float(ml_dtypes.finfo(kind).max) for kind in ("float16", "bfloat16", "float8_e4m3fn")}
"""The largest value of each type that a graph may be given."""

REDUCTIONS = ("ReduceMin", "ReduceMax")

MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice", "Split", "Expand"})
"""Operators whose outputs hold nothing but values of their input, so that its range is theirs."""

NARROW = 0.25
"""Share of a type's largest value from which on a tensor is warned of: other images may have four times the range."""


@dataclass(frozen=True)
class Observed:
    """What one tensor held: ``low`` and ``high`` over all images, NaN where one of its values was NaN."""

    node: str
    low: float
    high: float

    @property
    def amax(self) -> float:
        """The largest absolute value; Inf for NaN."""
        return float(np.nan_to_num(max(abs(self.low), abs(self.high)), nan=np.inf))

    def as_dict(self) -> dict:
        """For ``ranges.json``; ``headroom`` is how many times wider the values could be before a type's end."""
        low, high, amax = (value if np.isfinite(value) else str(value) for value in (self.low, self.high, self.amax))
        headroom = {kind: float(f"{limit / self.amax:.4g}") for kind, limit in LIMITS.items() if self.amax}
        return {"node": self.node, "low": low, "high": high, "amax": amax, "headroom": headroom}


def observe(model: onnx.ModelProto, pixels: np.ndarray) -> dict[str, Observed]:
    """The range of every float tensor that a node of ``model`` (FP32) makes, over ``pixels`` (S, 3, H, W)."""
    from exporter.backends.onnxruntime import session

    types = infer(model).types
    shell, arrays = onnxio.detach(model)
    nodes, names, moved = [], {}, {}
    for node in model.graph.node:
        nodes.append(node)
        for name in node.output:
            if types.get(name) != TensorProto.FLOAT:
                continue
            if node.op_type in MOVES and (node.input[0] in names or node.input[0] in moved):
                moved[name] = node
                continue
            names[name] = node.name
            nodes += [helper.make_node(op, [name], [f"{name}/{op}"], keepdims=0) for op in REDUCTIONS]
    wanted = [f"{name}/{op}" for name in names for op in REDUCTIONS]
    del shell.graph.node[:], shell.graph.output[:]
    shell.graph.node.extend(nodes)
    shell.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in wanted)
    run = session(shell, arrays, once=True, in_order=True)  # a tensor goes as soon as it was reduced
    feed = model.graph.input[0].name
    found = [
        np.array(run.run(wanted, {feed: pixels[i : i + BATCH]}), np.float64).reshape(-1, len(REDUCTIONS))
        for i in range(0, len(pixels), BATCH)
    ]
    low, high = np.min([f[:, 0] for f in found], 0), np.max([f[:, 1] for f in found], 0)
    ranges = {n: Observed(names[n], float(a), float(b)) for n, a, b in zip(names, low, high, strict=True)}
    for name, node in moved.items():
        source = ranges[node.input[0]]
        ranges[name] = Observed(node.name, source.low, source.high)
    return ranges


def beyond(observed: Mapping[str, Observed], element_type: str, share: float = 1.0) -> dict[str, str]:
    """Why tensors do not fit into a share of a type's range, by name."""
    limit = LIMITS[element_type]
    return {
        name: f"its values reach {range_.amax:.3g}, {element_type} ends at {limit:.5g}"
        for name, range_ in observed.items()
        if range_.amax > share * limit
    }
