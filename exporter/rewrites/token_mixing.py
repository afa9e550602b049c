"""Products over the tokens in place: the weight is multiplied from the left, and nothing is transposed.

X^T W = (W^T X)^T, and what is done to each element alone does not mind how it lies. (MLP-Mixer, arXiv:2105.01601;
ResMLP's and gMLP's projections over the patches.)

Before: Transpose (.., T, C) -> (.., C, T), MatMul(W (T, S)), Add(b (S,)), Gelu, MatMul, Add, .., Transpose back.
After: MatMul(W^T (S, T), x), Add(b (S, 1)), Gelu, MatMul, Add, ... Nodes keep their names. The sum with the residual
that follows, (B, T, C) + (B, T, C), is written on rows, (B T, C) + (B T, C).

Learned from TensorRT-RTX 1.7: around a single product it sees this itself, but not where a GELU stands between two,
and never in 8 bits. A LayerNorm that writes its result transposed is two kernels, one for the sums of the rows and one
for the rest; written as it is, it is one. A product over the channels is flattened to rows, one over the tokens is
not, and the residual is copied from one shape to the other unless both sums have the same. sm80, batch 32:

| | FP16: kernels + signals, MB | INT8: kernels, MB |
|---|---|---|
| Mixer for digits | 37, 45 -> 30, 37 | 46, 39 -> 38, 31 |
| Mixer-S | 69 + 28, 1531 -> 54, 1280 | 86, 1314 -> 70, 1057 |

gMLP-S in INT8 at batch 2: 216 -> 186. ResMLP stays as it was: between its product and its sum stands a scale, and with
that sum on rows it has 65 kernels in place of 75 + 40 signals at batch 32, but 65 in place of 43 at batch 1.

Matches: chains between two Transposes. Refused, with the reason recorded: a chain of which anything but its end is
read elsewhere, that is not transposed back, or that has an operator of another kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from exporter.emit import Emitter, replace
from exporter.errors import Refusal
from exporter.rowwise import BINARY, UNARY
from exporter.surgery import Shapes, constant, each, tidy

BATCHES = (2, 3)
"""At which shapes are looked at."""


@dataclass(frozen=True)
class Chain:
    """``nodes`` in their order and the Transposes that read what the last one makes."""

    nodes: list[gs.Node]
    ends: list[gs.Node]


def apply(graph: gs.Graph, shapes: Shapes, refused: dict | None = None) -> int:
    """Rewrite in place; returns the number of chains; ``refused`` is filled with reasons by the Transpose's name."""
    outputs = {id(t) for t in graph.outputs}
    mixed: list[tuple[gs.Tensor, str]] = []
    matches = each(graph, "Transpose", lambda node: _rewrite(graph, node, outputs, mixed), refused)
    for tensor, name in mixed:
        _sum_rows(graph, tensor, [shapes(batch).shapes.get(name) for batch in BATCHES], shapes)
    tidy(graph)
    return matches


def _rewrite(graph: gs.Graph, start: gs.Node, outputs: set[int], mixed: list[tuple[gs.Tensor, str]]) -> bool:
    """Rewrite the chain behind one Transpose; ``mixed`` gets what it makes and the name that ``shapes`` has for it."""
    if not start.outputs or not _exchanges(start) or len(start.outputs[0].outputs) != 1:
        return False
    chain = _chain(start, outputs)
    if chain is None:
        return False
    rank = len(start.attrs["perm"])
    tensor, name = start.inputs[0], chain.ends[0].outputs[0].name
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
    mixed.append((tensor, name))
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
    name = node.outputs[0].name
    if node.op == "MatMul":
        node.inputs = [gs.Constant(f"{name}/left", np.ascontiguousarray(constant(node.inputs[1]).T)), data]
        return
    for i, tensor in enumerate(node.inputs):
        value = constant(tensor)
        if value is None:
            node.inputs[i] = data
        elif value.size > 1:
            rows = value.reshape((1,) * max(0, 2 - value.ndim) + value.shape).swapaxes(-1, -2)
            node.inputs[i] = gs.Constant(f"{name}/column", np.ascontiguousarray(rows))


def _sum_rows(graph: gs.Graph, tensor: gs.Tensor, shape: list[tuple[int, ...] | None], shapes: Shapes) -> None:
    """Write the sum with a residual that alone reads ``tensor``, of a ``shape`` at ``BATCHES``, on rows of channels."""
    if len(tensor.outputs) != 1 or tensor.outputs[0].op != "Add" or any(tensor is t for t in graph.outputs):
        return
    node, result = tensor.outputs[0], tensor.outputs[0].outputs[0]
    (residual,) = [t for t in node.inputs if t is not tensor] or [tensor]
    others = [[shapes(batch).shapes.get(t.name) for batch in BATCHES] for t in (residual, result) if t is not tensor]
    if constant(residual) is not None or None in shape or any(other != shape for other in others):
        return
    tokens, channels = shape[0][-2:]
    if any(len(s) != 3 or s[1:] != (tokens, channels) or min(s) < 1 for s in shape):
        return
    e = Emitter(graph, node)
    node.inputs = [e.reshape(t, -1, channels) for t in node.inputs]
    node.outputs = [gs.Variable(f"{result.name}/rows", result.dtype)]
    e.reshape(node.outputs[0], -1, tokens, channels).inputs[0].outputs = [result]
