import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graphs import f32, graph, i64

from exporter.rowwise import row_inputs

ROWS = {
    "Relu": ("y = Relu (x)", [0]),
    "Cast": ("y = Cast <to = 10> (x)", [0]),
    "Clip": ("y = Clip (x, low)", [0]),
    "LayerNormalization": ("y = LayerNormalization (x, row, row)", [0]),
    "LayerNormalization of the last axis": ("y = LayerNormalization <axis = 2> (x, row)", [0]),
    "MatMul": ("y = MatMul (x, w)", [0]),
    "Gemm": ("y = Gemm (m, w, row)", [0]),
    "a bias": ("y = Add (x, row)", [0]),
    "a bias first": ("y = Add (row, x)", [1]),
    "a number": ("y = Mul (low, x)", [1]),
    "two tensors": ("y = Mul (x, x)", [0, 1]),
    "a sum of columns": ("y = ReduceSum (x, last)", [0]),
    "a mean, counted from the front": ("y = ReduceMean (x, two)", [0]),
}
NOT = {
    "Softmax": "y = Softmax (x)",
    "LayerNormalization of two axes": "y = LayerNormalization <axis = 1> (x, table)",
    "LayerNormalization with its mean": "y, mean = LayerNormalization (x, row)",
    "MatMul of a stack": "y = MatMul (x, stack)",
    "MatMul from the left": "y = MatMul (square, x)",
    "MatMul of two": "y = MatMul (x, x)",
    "Gemm transposed": "y = Gemm <transA = 1> (m, w)",
    "Gemm with another number for each row": "y = Gemm (m, w, column)",
    "a number for each row": "y = Add (x, column)",
    "a table": "y = Add (x, table)",
    "constants alone": "y = Add (row, row)",
    "a constant of a larger rank": "y = Add (x, deep)",
    "a sum over the rows": "y = ReduceSum (x, one)",
    "a sum without its axis": "y = ReduceSum <keepdims = 0> (x, last)",
    "a sum over everything": "y = ReduceSum (x)",
    "an operator that nobody knows": "y = TopK (x, one)",
}
WEIGHTS = {
    "low": np.float32(0),
    "row": f32(4),
    "w": f32(4, 4),
    "last": i64(-1),
    "two": i64(2),
    "one": i64(1),
    "table": f32(3, 4),
    "stack": f32(2, 4, 4),
    "square": f32(3, 3),
    "column": f32(3, 1),
    "deep": f32(1, 1, 1, 4),
}


def rows(line):
    model = graph(f"(float[batch, 3, 4] x, float[batch, 4] m) => (float[k] y) {{ {line} }}", **WEIGHTS)
    node = gs.import_onnx(model).nodes[0]
    rank = 2 if node.op == "Gemm" else 3
    return row_inputs(node, rank, 4)


@pytest.mark.parametrize("case", ROWS)
def test_operators_that_treat_every_row_alike(case):
    line, due = ROWS[case]
    assert rows(line) == due


@pytest.mark.parametrize("case", NOT)
def test_operators_that_do_not(case):
    assert rows(NOT[case]) is None


@pytest.mark.parametrize("axes, due", [("[-1]", [0]), ("[2]", [0]), ("[1]", None), ("[1, 2]", None)])
def test_axes_as_an_attribute(axes, due):
    model = graph(f"(float[batch, 3, 4] x) => (float[k] y) {{ y = ReduceMean <axes = {axes}> (x) }}", opset=17)
    assert row_inputs(gs.import_onnx(model).nodes[0], 3, 4) == due
