"""How much each channel of a normalisation varies before its scale and shift, as one image of noise shows.

The squares of all channels of a token add up to their number, so where a few of the residual are massive (Sun et al.
2024, arXiv:2402.17762), of the others little is left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, helper, numpy_helper

from exporter import detached
from exporter.backends import onnxruntime as ort_backend


def of(graph: gs.Graph, norms: Sequence[gs.Node]) -> dict[str, np.ndarray]:
    """(C,) the root mean square of each channel of the LayerNormalizations ``norms``, over all tokens, by node name.

    ``graph`` has one input of known height and width and is left as it is; empty where it has not.
    """
    sizes = graph.inputs[0].shape[1:] if len(graph.inputs) == 1 and graph.inputs[0].shape else [None]
    if not norms or not all(isinstance(size, int) and size > 0 for size in sizes):
        return {}
    held = {id(t): t._values for t in graph.tensors().values() if isinstance(t, gs.Constant)}
    shell, arrays = detached.exported(graph, onnx.ModelProto())
    for tensor in graph.tensors().values():
        if id(tensor) in held:
            tensor._values = held[id(tensor)]
    by_name = {node.name: node for node in shell.graph.node}
    wanted = {name: _measure(shell.graph, by_name[name], len(norm.inputs[1].values)) for norm in norms
              if (name := norm.name) in by_name}  # fmt: skip
    del shell.graph.output[:]
    shell.graph.output.extend(helper.make_tensor_value_info(t, TensorProto.FLOAT, None) for t in wanted.values())
    first = graph.inputs[0]
    batch = first.shape[0] if isinstance(first.shape[0], int) else 1
    noise = np.random.default_rng(0).standard_normal((batch, *sizes), dtype=np.float32)
    found = ort_backend.run(ort_backend.session(shell, arrays, once=True), {first.name: noise})
    return {name: np.sqrt(np.square(found[t].reshape(-1, found[t].shape[-1]), dtype=np.float64).mean(0))
            for name, t in wanted.items()}  # fmt: skip


def _measure(graph: onnx.GraphProto, norm: onnx.NodeProto, width: int) -> str:
    """The name of a tensor: what the normalisation makes with a scale of one and no shift."""
    one, made = f"{norm.name}/one", f"{norm.name}/normalised"
    graph.initializer.append(numpy_helper.from_array(np.ones(width, np.float32), one))
    attributes = {a.name: helper.get_attribute_value(a) for a in norm.attribute}
    graph.node.append(
        helper.make_node("LayerNormalization", [norm.input[0], one], [made], f"{made}/node", **attributes)
    )
    return made
