"""softmax(scale * Q K^T + bias) V in one form, whatever form it came in.

Before: one projection or three; heads split by Reshape, Transpose, Slice, Split or Gather; a scale on Q, on K, on the
scores or half on each; a relative position bias and a shift mask added one after the other between Reshapes.
After, in the form ``windows`` (B images, W windows of N tokens, H heads of D features)::

    q, k, v = three Linears           (B, W N, H D), the scale inside Q's weight and bias
    each Reshape (B, W, N, H, D), Transpose (B, W, H, N, D), K's last two axes exchanged
    MatMul, Add of one constant (W or 1, H or 1, N, N), Softmax, MatMul, Transpose, Reshape (B, W N, H D)

Matches: one for each attention. Refused, with the reason recorded: scores that depend on the input otherwise (a
computed mask), a bias that differs between images, heads that are not columns of a linear layer, keys that are
normalised after they were split into heads (Swin V2's cosine attention keeps its own product).

The other forms of :mod:`exporter.forms` are the same mathematics in other layouts, for a compiler to choose from.
"""

from __future__ import annotations

from dataclasses import replace

import onnx_graphsurgeon as gs

from exporter import attention, forms
from exporter.emit import Emitter
from exporter.emit import replace as put
from exporter.errors import Refusal
from exporter.surgery import Shapes, join_reshapes, tidy


def apply(
    graph: gs.Graph, shapes: Shapes, form: str = "windows", balanced: bool = False, refused: dict | None = None
) -> int:
    """Rewrite in place; returns the number of attentions; ``refused`` is filled with reasons by node name.

    ``balanced``, for 8 bits where Q and K may be rounded in the same steps: the scale is shared out between them.
    """
    tidy(graph)
    found, why = attention.find(graph, shapes)
    matches = 0
    for item in found:
        try:
            made = forms.FORMS[form](Emitter(graph, item.values), replace(item, balanced=balanced))
        except Refusal as reason:
            why[item.softmax.name] = str(reason)
            continue
        put(graph, item.result, made)
        matches += 1
    if refused is not None:
        refused.update(why)
    tidy(graph)
    join_reshapes(graph)
    tidy(graph)
    return matches
