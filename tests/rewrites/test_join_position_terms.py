"""Tiny pooled attentions: 6 = 2 x 3 queries, 6 = 3 x 2 keys, 2 heads of 5, a term for each key row and column."""

import numpy as np
import pytest
from graphs import f32, graph, i64, ops, rewritten

NAME = "join_position_terms"
Q = "qr = Reshape (x, heads) q = Transpose <perm = [0, 2, 1, 3]> (qr)"
K = "kn = Neg (q) k = Transpose <perm = [0, 1, 3, 2]> (kn)"
ROWS = "th = MatMul (q, tall) t1 = Reshape (th, rows)"
COLUMNS = "tw = MatMul (q, wide) t2 = Reshape (tw, columns)"
SUM = "s = MatMul (q, k) s1 = Reshape (s, places) s2 = Add (s1, t1) s3 = Add (t2, s2) s4 = Reshape (s3, scores)"
END = "p = Softmax <axis = -1> (s4) y = MatMul (p, q)"
WHOLE = (Q, K, ROWS, COLUMNS, SUM, END)
SHAPES = {
    "heads": i64(-1, 6, 2, 5),
    "rows": i64(-1, 2, 2, 3, 3, 1),
    "columns": i64(-1, 2, 2, 3, 1, 2),
    "places": i64(-1, 2, 2, 3, 3, 2),
    "scores": i64(-1, 2, 6, 6),
}


def attention(*parts, out="float[batch, 2, 6, 5] y", **changed):
    text = " ".join(parts)
    values = {"tall": f32(5, 3, seed=1), "wide": f32(5, 2, seed=2), "half": np.float32(0.5), "bias": f32(6, 6)} | SHAPES
    used = {k: v for k, v in (values | changed).items() if f", {k})" in text}
    return graph(f"(float[batch, 6, 10] x) => ({out}) {{ {text} }}", 22, **used)


def swapped(parts, old, new):
    assert any(old in part for part in parts)
    return [part.replace(old, new) for part in parts]


def test_terms_of_queries_are_more_columns():
    found = rewritten(NAME, attention(*WHOLE), 1, close=True)
    kinds = ops(found)
    assert kinds.count("Concat") == 1 and kinds[-2:] == ["MatMul", "Slice"]
    between = [n for n in found.graph.node if n.op_type == "Softmax"]
    made = {o: n for n in found.graph.node for o in n.output}
    product = made[between[0].input[0]]
    assert product.op_type == "MatMul"  # nothing is added to the scores
    assert made[product.input[1]].op_type == "Transpose"  # K is made wider before it, which costs no copy
    assert [kinds.count(k) for k in ("Pad", "Transpose")] == [3, 2]  # Q to 16 columns, K, V; Q's heads, K


def test_one_term_will_do_and_a_key_that_is_not_transposed():
    parts = swapped(WHOLE[:3] + WHOLE[4:], "s3 = Add (t2, s2) s4 = Reshape (s3, scores)", "s4 = Reshape (s2, scores)")
    rewritten(NAME, attention(*parts), 1, close=True)
    parts = swapped(WHOLE, K, "kr = Reshape (x, heads) k = Transpose <perm = [0, 2, 3, 1]> (kr)")
    rewritten(NAME, attention(*parts), 1, close=True)


@pytest.mark.parametrize("old, new", [
    ("s2 = Add (s1, t1)", "s1b = Mul (s1, half) s2 = Add (s1b, t1)"),  # scaled before the term is added
    ("p = Softmax <axis = -1> (s4)", "s5 = Add (s4, bias) p = Softmax <axis = -1> (s5)"),  # a constant bias
    ("y = MatMul (p, q)", "z = MatMul (p, q) y = Add (z, q)\n w = ReduceSum <keepdims = 0> (p)"),
    ("t1 = Reshape (th, rows)", "t0 = Reshape (th, other) t1 = Transpose <perm = [0, 1, 3, 2, 4, 5]> (t0)"),
    ("t2 = Reshape (tw, columns)", "t2b = Reshape (tw, columns) t2 = Expand (t2b, whole)"),
])  # fmt: skip
def test_what_looks_alike_stays_or_keeps_its_values(old, new):
    out = "float[batch, 2, 6, 5] y, float w" if " w = " in new else "float[batch, 2, 6, 5] y"
    changed = {"other": i64(-1, 2, 3, 2, 3, 1), "whole": i64(1, 1, 1, 1, 3, 1)}
    matches = 1 if "Transpose" in new else 0
    rewritten(NAME, attention(*swapped(WHOLE, old, new), out=out, **changed), matches, close=True)


def test_a_head_too_wide_for_the_fused_kernel_stays():
    wide = {"heads": i64(-1, 6, 2, 250), "tall": f32(250, 3), "wide": f32(250, 2)}
    model = attention(*WHOLE, out="float[batch, 2, 6, 250] y", **wide)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 500
    rewritten(NAME, model, 1, close=True)
    wide = {"heads": i64(-1, 6, 2, 256), "tall": f32(256, 3), "wide": f32(256, 2)}
    model = attention(*WHOLE, out="float[batch, 2, 6, 256] y", **wide)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 512
    rewritten(NAME, model, 0)


PLAIN = "float[batch, 2, 6, 5] y"


SCORES = "float[batch, 2, 6, 6]"


@pytest.mark.parametrize("read", [f"{SCORES} s4", "float[batch, 2, 2, 3, 3, 2] s1", f"{SCORES} s"])
def test_scores_that_somebody_else_reads_stay(read):
    rewritten(NAME, attention(*WHOLE, out=f"{PLAIN}, {read}"), 0)


def test_heads_before_the_batch_stay():
    """Q (heads, batch, tokens, features): what is reshaped by the axes of one batch is wrong at another."""
    parts = swapped(WHOLE, "perm = [0, 2, 1, 3]", "perm = [2, 0, 1, 3]")
    shapes = {"rows": i64(2, -1, 2, 3, 3, 1), "columns": i64(2, -1, 2, 3, 1, 2), "places": i64(2, -1, 2, 3, 3, 2),
              "scores": i64(2, -1, 6, 6)}  # fmt: skip
    rewritten(NAME, attention(*parts, out="float[2, batch, 6, 5] y", **shapes), 0)


def test_a_term_without_a_batch_stays():
    few = swapped(WHOLE, ROWS, "tz = ReduceSum <keepdims = 1> (x, three) tb = Reshape (tz, ones) t1 = Mul (tb, half)")
    few = swapped(few, "s3 = Add (t2, s2) s4 = Reshape (s3, scores)", "s4 = Reshape (s2, scores)")
    few = [part for part in few if part is not COLUMNS]
    rewritten(NAME, attention(*few, three=i64(0, 1, 2), ones=i64(1, 1, 1, 1, 1, 1)), 0)
