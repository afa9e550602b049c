import re
from collections import Counter

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from attentions import BIASES, HEADS, KEYS, LINEARS, PROJECTIONS, SCALES, C, E, N, attention, written
from graphs import apply, assert_close, f32, graph, i64, ops, rewritten, with_outputs
from test_attention import MERGED, PLAIN, SOFT, second

from exporter import attention as attentions
from exporter.rewriting import shapes_of

NAME = "attention_form"
CANONICAL = Counter(MatMul=6, Add=5, Reshape=5, Transpose=5, Softmax=1)


@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize("projection", PROJECTIONS)
def test_one_form_whatever_the_projections_were(projection, opset):
    after = rewritten(NAME, attention(projection, opset=opset), 1, close=True)
    assert Counter(ops(after)) == CANONICAL


@pytest.mark.parametrize("scale", SCALES)
def test_one_form_wherever_the_scale_was(scale):
    assert Counter(ops(rewritten(NAME, attention(scale=scale), 1, close=True))) == CANONICAL


@pytest.mark.parametrize("bias", BIASES)
def test_one_form_however_the_bias_was_added(bias):
    due = CANONICAL - Counter(Add=1) if bias == "none" else CANONICAL
    assert Counter(ops(rewritten(NAME, attention(bias=bias), 1, close=True))) == due


def test_the_nodes_stand_in_one_order():
    orders = {
        tuple(ops(apply(NAME, attention(p, s, b))[1]))
        for p, s, b in zip(PROJECTIONS, SCALES, [*BIASES][1:], strict=False)
    }
    assert len(orders) == 1


def test_the_form_of_the_form_is_the_form():
    once = apply(NAME, attention())[1]
    twice = rewritten(NAME, once, 1, close=True)
    assert Counter(ops(twice)) == Counter(ops(once))


@pytest.mark.parametrize("dead", ["d = Exp (p)", "d = Exp (q)", "d = Exp (p)\n d2 = Neg (d)"])
def test_a_reader_that_nothing_reads_is_no_obstacle(dead):
    text, weights = PROJECTIONS["three layers"]
    lines = (
        f"{text} kt = Transpose <perm = [0, 1, 3, 2]> (k)\n s = MatMul (q, kt)\n p = Softmax <axis = -1> (s)\n {dead}\n"
        " o = MatMul (p, v)\n ot = Transpose <perm = [0, 2, 1, 3]> (o)\n y = Reshape (ot, back)"
    )
    model = graph(
        f"(float[batch, {N}, {C}] x) => (float[batch, {N}, {E}] y) {{ {lines} }}", back=i64(-1, N, E), **weights
    )
    assert not {"Exp", "Neg"} & {*ops(rewritten(NAME, model, 1, close=True))}


def test_the_batch_in_the_second_place():
    after = rewritten(NAME, second(), 1, close=True)
    assert "Gemm" in ops(after) and ops(after).count("Softmax") == 1
    (found,), _ = attentions.find(gs.import_onnx(after), shapes_of(after))
    assert found.q.in_order and found.order.natural


def test_two_attentions_one_after_the_other():
    model = two_blocks()
    after = rewritten(NAME, model, 2, close=True)
    assert ops(after).count("Softmax") == 2 and ops(after).count("MatMul") == 11


def two_blocks():
    """The second attention reads what the first one makes, with no layer between."""
    merge = "ot = Transpose <perm = [0, 2, 1, 3]> (o)\n m = Reshape (ot, side)\n"
    block = PLAIN + SOFT + merge
    names = [re.match(r" *(\w+) =", line)[1] for line in block.splitlines()]
    again = re.sub(rf"\b({'|'.join(names)}|w[qkv])\b", r"\1_", block.replace("(x,", "(m,")).replace("(m_,", "(m,")
    end = "r9 = Reshape (m_, merged)\n y = MatMul (r9, wo)\n"
    weights = {f"w{c}_": f32(E, E, seed=40 + i) / 3 for i, c in enumerate("qkv")}
    return written(block + again + end, **MERGED, **weights, side=i64(-1, N, E))


def test_a_result_that_is_an_output_keeps_its_name():
    lines = PLAIN + SOFT + "ot = Transpose <perm = [0, 2, 1, 3]> (o)\n y = Reshape (ot, side)\n"
    model = graph(
        f"(float[batch, {N}, {C}] x) => (float[batch, {N}, {E}] y) {{ {lines} }}",
        **{k: v for k, v in MERGED.items() if k not in ("windows", "merged", "wo", "bo")},
        side=i64(-1, N, E),
    )
    after = rewritten(NAME, model, 1, close=True)
    assert after.graph.output[0].name == "y"


def test_a_result_that_is_an_output_and_is_read():
    model = with_outputs(attention(), "r9")
    rewritten(NAME, model, 1, close=True)


REFUSED = {
    "queries that no linear layer makes": (
        "not the result of a linear layer",
        LINEARS + "ql2 = Relu (qa)\n" + HEADS.replace("(qa,", "(ql2,") + KEYS + "s = MatMul (q, kt)\n" + SOFT,
    ),
    "values that are the tokens themselves": (
        "not the result of a linear layer",
        LINEARS
        + "vl2 = Exp (x)\n vc = Pad (vl2, pads)\n"
        + HEADS.replace("(va,", "(vc,")
        + KEYS
        + "s = MatMul (q, kt)\n"
        + SOFT,
    ),
    "values that are scaled": ("values are scaled", PLAIN + "v2 = Mul (v, two)\n" + SOFT.replace("p, v)", "p, v2)")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    says, lines = REFUSED[case]
    end = "ot = Transpose <perm = [0, 2, 1, 3]> (o)\n r9 = Reshape (ot, merged)\n y = MatMul (r9, wo)\n"
    model = written(lines + end, **MERGED, two=np.float32(2), pads=i64(0, 0, 0, 0, 0, E - C))
    why = {}
    rewritten(NAME, model, 0, refused=why)
    assert len(why) == 1 and all(says in reason for reason in why.values()), why


def test_refused_by_one_form_and_not_by_another_leaves_that_attention_alone():
    from test_attention import cross

    why = {}
    rewritten(NAME, cross(), 0, form="windows_packed", refused=why)
    assert len(why) == 1
    rewritten(NAME, cross(), 1, form="windows", close=True)


def test_a_layer_whose_other_columns_something_else_reads_stays_for_them():
    """A gate from the same product: attention takes its columns, the gate keeps the layer."""
    model = with_outputs(attention("split of the columns"), "a")
    after = rewritten(NAME, model, 1, close=True)
    assert ops(after).count("MatMul") == 7


def test_nothing_to_find():
    model = graph("(float[batch, 4] x) => (float[batch, 4] y) { y = Softmax (x) }")
    assert ops(rewritten(NAME, model, 0)) == ["Softmax"]


def test_a_bias_added_with_one_number_is_a_linear_layer_of_another_kind():
    """MatMul + 1: no bias of one number a column, so no linear layer, and no crash."""
    lines = PLAIN.replace("Add (ql, bq)", "Add (ql, one)") + SOFT
    end = "ot = Transpose <perm = [0, 2, 1, 3]> (o)\n r9 = Reshape (ot, merged)\n y = MatMul (r9, wo)\n"
    model = written(lines + end, **MERGED, one=np.float32(1))
    matches, after = apply(NAME, model)
    assert_close(model, after)
    assert matches == 0
