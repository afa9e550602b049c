"""Products over the tokens in place: the weight is multiplied from the left, and nothing is transposed.

X^T W = (W^T X)^T, and what is done to each element alone does not mind how it lies. (MLP-Mixer, arXiv:2105.01601;
ResMLP's and gMLP's projections over the patches.)

Before: Transpose (.., T, C) -> (.., C, T), MatMul(W (T, S)), Add(b (S,)), Gelu, MatMul, Add, .., Transpose back.
After: MatMul(W^T (S, T), x), Add(b (S, 1)), Gelu, MatMul, Add, ... Nodes keep their names.

Learned from TensorRT-RTX 1.7: around a single product it sees this itself, but not where a GELU stands between two,
and never in 8 bits. A LayerNorm that writes its result transposed is two kernels, one for the sums of the rows and one
for the rest; written as it is, it is one, and the residual sum goes into it. Mixer for digits, sm80, batch 32: 37 ->
34 kernels and 45 -> 39 MB in FP16, 46 -> 38 and 39 -> 31 MB in INT8; gMLP-S in INT8 at batch 2: 216 -> 186. ResMLP
stays as it was.

Matches: chains between two Transposes. Refused, with the reason recorded: a chain of which anything but its end is
read elsewhere, that is not transposed back, or that has an operator of another kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from exporter.emit import replace
from exporter.errors import Refusal
from exporter.rowwise import BINARY, UNARY
from exporter.surgery import Shapes, constant, each


@dataclass(frozen=True)
class Chain:
    """``nodes`` in their order and the Transposes that read what the last one makes."""

    nodes: list[gs.Node]
    ends: list[gs.Node]


def apply(graph: gs.Graph, shapes: Shapes, refused: dict | None = None) -> int:
    """Rewrite in place; returns the number of chains; ``refused`` is filled with reasons by the Transpose's name."""
    outputs = {id(t) for t in graph.outputs}
    return each(graph, "Transpose", lambda node: _rewrite(graph, node, outputs), refused)


def _rewrite(graph: gs.Graph, start: gs.Node, outputs: set[int]) -> bool:
    if not start.outputs or not _exchanges(start) or len(start.outputs[0].outputs) != 1:
        return False
    chain = _chain(start, outputs)
    if chain is None:
        return False
    rank = len(start.attrs["perm"])
    tensor = start.inputs[0]
    for node in chain.nodes:
        _turn(node, tensor, rank)
        tensor = node.outputs[0]
        tensor.shape = None  # no longer what the graph says of it
    for end in chain.ends:
        result = end.outputs[0]
        end.outputs.clear()
        end.inputs.clear()
        replace(graph, result, tensor)
        if id(result) in outputs:
            tensor = result  # it has the output's name now
    return True


def _exchanges(node: gs.Node) -> bool:
    """Whether a Transpose exchanges the last two axes, and no others, behind a batch."""
    perm = list(node.attrs.get("perm") or ())
    return len(perm) > 2 and perm == [*range(len(perm) - 2), len(perm) - 1, len(perm) - 2]


def _chain(start: gs.Node, outputs: set[int]) -> Chain | None:
    """What is between a Transpose and those that turn back, None where no weight is multiplied.

    Raises :class:`Refusal` where one is and the chain is no chain.
    """
    nodes: list[gs.Node] = []
    tensor, rank = start.outputs[0], len(start.attrs["perm"])
    multiplied = False
    while True:
        ends = [node for node in tensor.outputs if node.op == "Transpose" and _exchanges(node)]
        if multiplied and ends and len(ends) == len(tensor.outputs) and id(tensor) not in outputs:
            return Chain(nodes, ends)
        alone = len(tensor.outputs) == 1 and id(tensor) not in outputs
        if not alone or not _turns(tensor.outputs[0], tensor, rank):
            if not multiplied:
                return None
            raise Refusal(f"what {nodes[-1].name} makes is not transposed back alone")
        node = tensor.outputs[0]
        multiplied = multiplied or node.op == "MatMul"
        nodes.append(node)
        tensor = node.outputs[0]


def _turns(node: gs.Node, data: gs.Tensor, rank: int) -> bool:
    """Whether an operator is a product with a matrix, or does the same to its data however that lies."""
    others = [t for t in node.inputs if t is not data]
    values = [constant(t) for t in others]
    if len(node.outputs) != 1 or any(v is None for v in values):
        return False
    if node.op == "MatMul":
        return node.inputs[0] is data and len(values) == 1 and values[0].ndim == 2
    if node.op in UNARY:
        return node.inputs[0] is data and all(v.size == 1 for v in values)
    return node.op in BINARY and len(values) == 1 and (values[0].ndim < rank or set(values[0].shape[:-2]) == {1})


def _turn(node: gs.Node, data: gs.Tensor, rank: int) -> None:
    """``node`` on ``data``, whose last two axes are exchanged."""
    if node.op == "MatMul":
        node.inputs = [gs.Constant(f"{node.name}/left", np.ascontiguousarray(constant(node.inputs[1]).T)), data]
        return
    for i, tensor in enumerate(node.inputs):
        value = constant(tensor)
        if value is None:
            node.inputs[i] = data
        elif value.size > 1:
            rows = value.reshape((1,) * max(0, 2 - value.ndim) + value.shape).swapaxes(-1, -2)
            node.inputs[i] = gs.Constant(f"{node.name}/column", np.ascontiguousarray(rows))
