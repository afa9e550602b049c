"""How much each channel of a normalisation varies before its scale and shift, as one image of noise shows.

The squares of all channels of a token add up to their number, so where a few of the residual are massive (Sun et al.
2024, arXiv:2402.17762), of the others little is left.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, helper, numpy_helper

from exporter import detached
from exporter.backends import onnxruntime as ort_backend
from exporter.surgery import Shapes


def of(graph: gs.Graph, shapes: Shapes) -> dict[str, np.ndarray]:
    """(C,) the root mean square of each channel of every LayerNormalization, over all tokens, by its output's name.

    It is not finite where the noise makes a normalisation's input so. Nothing is known, the answer empty, of a graph
    that has anything but one input, in FP32, of known height and width. ``graph`` computes what it did.
    """
    if len(graph.inputs) != 1 or graph.inputs[0].dtype != np.float32:
        return {}
    first, known = graph.inputs[0], shapes(1)
    sizes = known.shapes.get(first.name)
    if not sizes or min(sizes) < 1:
        return {}
    shell, arrays = _exported(graph)
    wanted = {}
    for node in shell.graph.node:
        node.name = ""  # ONNX Runtime refuses two of one name
    for norm in [n for n in shell.graph.node if n.op_type == "LayerNormalization"]:
        shape = known.shapes.get(norm.input[0])
        if known.types.get(norm.input[0]) == TensorProto.FLOAT and shape and shape[-1] > 0:
            wanted[norm.output[0]] = _measure(shell.graph, norm, shape[-1])
    if not wanted:
        return {}
    del shell.graph.output[:]
    shell.graph.output.extend(helper.make_tensor_value_info(t, TensorProto.FLOAT, None) for t in wanted.values())
    noise = np.random.default_rng(0).standard_normal(sizes, dtype=np.float32)
    found = ort_backend.run(ort_backend.session(shell, arrays, once=True), {first.name: noise})
    with np.errstate(all="ignore"):
        return {name: np.sqrt(np.square(found[t].reshape(-1, found[t].shape[-1]), dtype=np.float64).mean(0))
                for name, t in wanted.items()}  # fmt: skip


def _exported(graph: gs.Graph) -> tuple[onnx.ModelProto, detached.Arrays]:
    """The graph without its large constants, and those; in ``graph`` they stay arrays."""
    held = [(t, t._values) for t in graph.tensors().values() if isinstance(t, gs.Constant)]
    made = detached.exported(graph, onnx.ModelProto())
    for tensor, values in held:
        tensor._values = values
    return made


def _measure(graph: onnx.GraphProto, norm: onnx.NodeProto, width: int) -> str:
    """The name of a tensor: what the normalisation makes with a scale of one and no shift."""
    one, made = f"{norm.output[0]}/one", f"{norm.output[0]}/normalised"
    graph.initializer.append(numpy_helper.from_array(np.ones(width, np.float32), one))
    alike = {a.name: helper.get_attribute_value(a) for a in norm.attribute}
    graph.node.append(helper.make_node("LayerNormalization", [norm.input[0], one], [made], **alike))
    return made
