"""What happens to attention scores between the product and the softmax: they are scaled and something is added.

The steps are run on whole arrays: all of them on zeros, which leaves the bias, and those that multiply on ones, which
leaves the scale (the difference of two runs would round it to the bias's last digits). A bias that an exporter expands
to the batch, or computes from the shapes alone, is a number like any other there.

A Where of a mask that is known puts a number so low in the place of a score that no share is left of it. Whatever the
score is, adding ``HIDDEN`` to it leaves none either, unless a row's scores are that far apart or all are hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from exporter.datafree import DataFree
from exporter.errors import Refusal
from exporter.moves import MOVES, is_move
from exporter.surgery import Shapes

BATCH = 2
ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
STEPS = ARITHMETIC | {"Where": np.where}
STEPS_WITH_ONE_DATA = frozenset(STEPS) | {"Reshape", "Squeeze", "Unsqueeze"}

HIDDEN = -3e4
"""What is added to a score that a mask hides: every 16-bit type has it, with room for the score."""


@dataclass(frozen=True)
class Steps:
    """``product`` is the MatMul of the scores; softmax sees ``scale * scores + bias``, at a batch of two.

    ``scale`` and ``bias`` have the softmax's shape; ``bias`` is None where nothing is added.
    """

    product: gs.Node
    scale: np.ndarray
    bias: np.ndarray | None


def steps(tensor: gs.Tensor, free: DataFree, shapes: Shapes) -> Steps:
    """Follow the softmax's input up to the product; :class:`Refusal` says why that cannot be done."""
    chain: list[tuple[gs.Node, int]] = []
    while True:
        node = tensor.inputs[0] if tensor.inputs else None
        if node is None:
            raise Refusal("its scores are not a product of queries and keys")
        if len(tensor.outputs) != 1:
            raise Refusal(f"the scores of {node.name} have other readers")
        if node.op == "MatMul" and not any(isinstance(t, gs.Constant) for t in node.inputs):
            break
        data = [i for i, t in enumerate(node.inputs) if not free.holds(t)]
        known = node.op in STEPS_WITH_ONE_DATA and len(data) == 1
        known = known and (node.op in STEPS or is_move(node))
        if not known or (node.op in ("Div", "Where") and data == [int(node.op == "Div")]):
            raise Refusal(f"{node.op} {node.name} on its scores depends on the input")
        chain.append((node, data[0]))
        tensor = node.inputs[data[0]]
    shape = shapes(BATCH).shapes.get(tensor.name)
    if shape is None or -1 in shape:
        raise Refusal("the shape of its scores is not known")
    added = any(node.op in ("Add", "Sub", "Where") for node, _ in chain)
    bias = _run(chain, np.zeros(shape, np.float32), free) if added else None
    if any(node.op == "Where" for node, _ in chain):
        bias = _lowered(bias, _hidden(chain, shape, free))
    factors = [(node, i) for node, i in chain if node.op not in ("Add", "Sub", "Where")]
    minus = sum(node.op == "Sub" and i == 1 for node, i in chain) % 2
    scale = _run(factors, np.full(shape, -1.0 if minus else 1.0, np.float32), free)
    if not all(x is None or np.isfinite(x).all() for x in (scale, bias)):
        raise Refusal(
            "its scores get values that are not finite: what a softmax makes of a row of them is its own affair"
        )
    return Steps(node, scale, bias)


def _hidden(chain: list[tuple[gs.Node, int]], shape: tuple[int, ...], free: DataFree) -> np.ndarray:
    """Where the softmax sees what a Where put in the place of a score."""
    masks = [(node, i) for node, i in chain if node.op not in ARITHMETIC]
    return np.isnan(_run(masks, np.zeros(shape, np.float32), free, put=np.nan))


def _lowered(bias: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """The bias with ``HIDDEN`` where a score is hidden; each row must keep one that is not."""
    if (bias[hidden] > HIDDEN).any():
        raise Refusal("a Where puts numbers in the place of its scores that a softmax may see")
    if hidden.all(-1).any():
        raise Refusal("a mask hides every key of a query")
    return np.where(hidden, np.float32(HIDDEN), bias)


def _run(chain: list[tuple[gs.Node, int]], x: np.ndarray, free: DataFree, put: float | None = None) -> np.ndarray:
    """``x`` after the steps; ``put`` is what every Where puts in the place of a score, if not its own value."""
    for node, index in reversed(chain):
        if node.op in MOVES:
            tokens = x.shape[-2:]
            x = MOVES[node.op](node, [x], 0)
            if x.shape[-2:] != tokens:
                raise Refusal(f"{node.op} {node.name} mixes the tokens of its scores")
            continue
        operands = [x if i == index else free.value(t, BATCH) for i, t in enumerate(node.inputs)]
        if any(operand is None for operand in operands):
            raise Refusal(f"what {node.op} {node.name} does to its scores cannot be computed")
        if node.op == "Where" and put is not None:
            operands[3 - index] = np.float32(put)
        with np.errstate(all="ignore"):
            x = STEPS[node.op](*operands).astype(np.float32, copy=False)
    return x
