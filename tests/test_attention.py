"""Attention is found however it is written, and what only looks like it is refused with the reason."""

import itertools

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from attentions import (
    BIAS,
    BIASES,
    END,
    FOUR,
    HEADS,
    KEYS,
    LINEARS,
    MASK,
    MIX,
    PROJECTIONS,
    SCALE,
    SCALES,
    WEIGHTS,
    C,
    D,
    E,
    H,
    N,
    T,
    W,
    attention,
    expected,
    written,
)
from graphs import f32, feed, graph, i64, run, with_outputs

from exporter import attention as attentions
from exporter.rewriting import shapes_of


def found(model):
    """(the attentions of a model, the reasons why others were refused)."""
    here, refused = attentions.find(gs.import_onnx(model), shapes_of(model))
    return here, list(refused.values())


def the_one(model):
    here, refused = found(model)
    assert len(here) == 1 and not refused, refused
    return here[0]


def refusal(model) -> str:
    here, refused = found(model)
    assert not here and len(refused) == 1
    return refused[0]


WAYS = [
    *((p, "on the scores", "bias and mask") for p in PROJECTIONS),
    *(("gather", s, "bias and mask") for s in SCALES),
    *(("split of the columns", "half on each", b) for b in BIASES),
]


@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize("projection, scale, bias", WAYS)
def test_every_way_of_writing_it_is_found_with_the_same_numbers(projection, scale, bias, opset):
    a = the_one(attention(projection, scale, bias, opset))
    assert (a.windows, a.heads, a.tokens, a.shape) == (W, H, N, (-1, T, E))
    np.testing.assert_allclose(a.scale, np.full(H, SCALE), rtol=1e-6)
    if bias == "none":
        assert a.bias is None
    else:
        due = BIAS + MASK[:, None] * ("mask" in bias or bias == "both in one")
        np.testing.assert_allclose(a.bias, due if len(a.bias) > 1 else due[:1], rtol=1e-6)
        assert len(a.bias) == (W if "mask" in bias or bias == "both in one" else 1)
    for operand in (a.q, a.k, a.v):
        assert operand.rows.shape == (W, N) and operand.columns.shape == (H, D) and operand.in_order
        assert operand.order.natural and operand.normalised is None


@pytest.mark.parametrize("bias, has", [("none", (False, False)), ("bias and mask", (True, True))])
def test_the_graphs_of_these_tests_compute_attention(bias, has):
    for projection, scale in itertools.product(PROJECTIONS, SCALES):
        model = attention(projection, scale, bias)
        feeds = feed(model, 3)
        due = expected(feeds["image"], *has)
        np.testing.assert_allclose(run(model, feeds)["y"], due, rtol=0, atol=1e-5 * np.abs(due).max())


def test_windows_and_heads_in_one_axis():
    lines = LINEARS + HEADS
    lines += "".join(f"{c}3 = Reshape ({c}, three)\n" for c in "qkv")
    lines += "kt = Transpose <perm = [0, 2, 1]> (k3)\n s = MatMul (q3, kt)\n p = Softmax (s)\n o3 = MatMul (p, v3)\n"
    model = written(lines + "o = Reshape (o3, four2)\n" + END, **MERGED, four2=i64(-1, H, N, D), three=i64(-1, N, D))
    a = the_one(model)
    assert (a.windows, a.heads) == (W, H) and a.bias is None and a.scale.tolist() == [1, 1]


MERGED = WEIGHTS | FOUR | {"merged": i64(-1, T, E), "windows": i64(-1, N, C), "wo": f32(E, C), "bo": f32(C)}


def test_the_batch_in_the_second_place():
    """As torch's MultiheadAttention: (tokens, batch, columns), heads and images in one axis, a flat result."""
    model = second()
    a = the_one(model)
    assert (a.windows, a.heads, a.tokens) == (1, H, T) and a.q.order.positions == T
    assert a.order.positions == T and a.shape == (-1, E)


def second():
    lines = "x = Transpose <perm = [1, 0, 2]> (image)\n" + LINEARS
    lines += "".join(f"{c}r = Reshape ({c}a, flat)\n {c} = Transpose <perm = [1, 0, 2]> ({c}r)\n" for c in "qkv")
    lines += """kt = Transpose <perm = [0, 2, 1]> (k)
        s = MatMul (q, kt)
        p = Softmax <axis = 2> (s)
        o = MatMul (p, v)
        ot = Transpose <perm = [1, 0, 2]> (o)
        m = Reshape (ot, rows)
        g = Gemm (m, wo, bo)
        yr = Reshape (g, tokens)
        y = Transpose <perm = [1, 0, 2]> (yr)"""
    return graph(
        f"(float[batch, {T}, {C}] image) => (float[batch, {T}, {C}] y) {{ {lines} }}",
        **WEIGHTS,
        flat=i64(T, -1, D),
        rows=i64(-1, E),
        tokens=i64(T, -1, C),
        wo=f32(E, C),
        bo=f32(C),
    )


def cosine(
    lines="", axis=-1, low=1e-12, clip="Clip ({0}n, low)", opset=22, length="ReduceL2 <keepdims = 1> ({0}, axis)"
):
    """Q and K divided by their lengths, the scores multiplied by a number for each head."""
    lines = LINEARS + HEADS
    for c in "qk":
        lines += f"{c}n = {length.format(c)}\n {c}c = {clip.format(c)}\n {c}u = Div ({c}, {c}c)\n"
    lines += "kt = Transpose <perm = [0, 1, 3, 2]> (ku)\n s0 = MatMul (qu, kt)\n s = Mul (s0, scales)\n"
    weights = WEIGHTS | FOUR | MERGED | {"scales": np.float32([[[2]], [[3]]]), "low": np.float32(low)}
    return written(lines + MIX.replace("b2", "s") + END, opset, axis=i64(axis), one=np.float32(1), **weights)


@pytest.mark.parametrize("opset", [17, 22])
def test_cosine_attention(opset):
    old = {"length": "ReduceL2 <keepdims = 1, axes = [-1]> ({0})"} if opset == 17 else {}
    a = the_one(cosine(opset=opset, low=1e-6, **old))
    assert a.q.normalised == a.k.normalised == pytest.approx(1e-6) and a.v.normalised is None
    np.testing.assert_array_equal(a.scale, [2, 3])


@pytest.mark.parametrize(
    "how",
    [
        {"clip": "Clip ({0}n, low, one)"},
        {"clip": "Max ({0}n, low, one)"},
        {"axis": -2},
        {"length": "ReduceL1 <keepdims = 1> ({0}, axis)"},
    ],
)
def test_refused_cosine_attention_of_another_kind(how):
    assert found(cosine(**how))[0] == []


def test_refused_vectors_of_all_heads_divided_by_one_length():
    lines = LINEARS + "qn = ReduceL2 <keepdims = 1> (qa, last)\n qc = Clip (qn, low)\n qu = Div (qa, qc)\n"
    lines += HEADS.replace("Reshape (qa", "Reshape (qu") + KEYS + "s = MatMul (q, kt)\n" + MIX.replace("b2", "s") + END
    model = written(lines, **MERGED, last=i64(-1), low=np.float32(1e-12))
    assert the_one(model).q.normalised is None


PLAIN = LINEARS + HEADS + KEYS + "s = MatMul (q, kt)\n"
SOFT = MIX.replace("b2", "s")


def test_a_chain_of_selections_from_one_tensor_may_leave_rows_out():
    """Queries of fewer tokens than keys: the class token alone is asked."""
    lines = PLAIN.replace("s = MatMul (q, kt)", "q1 = Slice (q, zero, one, two)\n s = MatMul (q1, kt)")
    end = END.replace("merged", "first")
    model = graph(
        f"(float[batch, {N}, {C}] x) => (float[batch, 1, {C}] y) {{ {lines} {SOFT} {end} }}",
        **{k: v for k, v in MERGED.items() if k not in ("windows", "merged")},
        first=i64(-1, 1, E),
        zero=i64(0),
        one=i64(1),
        two=i64(2),
    )
    a = the_one(model)
    assert a.q.rows.tolist() == [[0]] and a.k.rows.tolist() == [[0, 1, 2]] and a.tokens == 1


REFUSED = {
    "a mask that is computed of the input": (
        "on its scores depends on the input",
        "m = ReduceMean <keepdims = 1> (x, last)\n m4 = Unsqueeze (m, axis)\n s2 = Add (s, m4)\n",
        {"last": i64(2), "axis": i64(1)},
    ),
    "scores that something else reads": (
        "have other readers",
        "e = Exp (s)\n e2 = ReduceSum <keepdims = 0> (e)\n s2 = Mul (s, two)\n",
        {"two": np.float32(2)},
    ),
    "a row of -inf": (
        "not finite",
        "s2 = Add (s, inf)\n",
        {"inf": np.where(np.arange(N)[:, None] == 1, np.float32(-np.inf), np.float32(0))},
    ),
    "a mask of some -inf": ("not finite", "s2 = Add (s, inf)\n", {"inf": np.triu(np.full((N, N), -np.inf, "f4"), 1)}),
    "two masks whose sum is -inf": (
        "not finite",
        "s1 = Add (s, low)\n s2 = Add (s1, low)\n",
        {"low": np.full((1, N), np.finfo(np.float32).min)},
    ),
    "a factor for each key": ("more than one number", "s2 = Mul (s, c)\n", {"c": f32(N)}),
    "a factor for each query": ("more than one number", "s2 = Mul (s, c)\n", {"c": f32(N, 1)}),
    "a number divided by the scores": ("depends on the input", "s2 = Div (c, s)\n", {"c": np.float32(2)}),
    "capped scores": ("on its scores", "s2 = Tanh (s)\n", {}),
    "scores where a mask says so, and -9 elsewhere": (
        "that a softmax may see",
        "s2 = Where (c, s, n)\n",
        {"c": np.eye(N) > 0, "n": np.float32(-9)},
    ),
    "heads that talk": (
        "on its scores",
        "s5 = Reshape (s, pair)\n s6 = MatMul (s5, mix)\n s2 = Reshape (s6, back)\n",
        {"pair": i64(-1, H, N * N), "mix": f32(N * N, N * N), "back": i64(-1, H, N, N)},
    ),
    "keys and queries exchanged": (
        "on its scores",
        "s2 = Transpose <perm = [0, 1, 3, 2]> (s)\n",
        {},
    ),
    "scores in rows of another length": (
        "mixes the tokens",
        "s1 = Reshape (s, flat)\n s3 = Mul (s1, two)\n s2 = Reshape (s3, back)\n",
        {"flat": i64(-1, H, N * N), "two": np.float32(2), "back": i64(-1, H, N, N)},
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_what_happens_to_the_scores(case):
    says, lines, weights = REFUSED[case]
    model = written(PLAIN + lines + SOFT.replace("(s)", "(s2)") + END, **MERGED | weights)
    assert says in refusal(model)


def test_refused_a_bias_that_differs_between_images():
    """A bias of batch numbers, 0 1 2 ...: data-free, and another one for each image."""
    lines = """b = Shape <end = 1> (image)
        b0 = Squeeze (b, zeros)
        r = Range (zero, b0, one)
        f = Cast <to = 1> (r)
        f5 = Reshape (f, five)
        s5 = Reshape (s, apart)
        s6 = Add (s5, f5)
        s2 = Reshape (s6, back)
    """
    model = written(
        PLAIN + lines + SOFT.replace("(s)", "(s2)") + END,
        **MERGED,
        zeros=i64(0),
        zero=np.int64(0),
        one=np.int64(1),
        five=i64(-1, 1, 1, 1, 1),
        apart=i64(-1, W, H, N, N),
        back=i64(-1, H, N, N),
    )
    assert "not the same for every image" in refusal(model)


def test_a_mask_that_is_expanded_to_the_batch_is_the_same_for_every_image():
    lines = """b = Shape <end = 1> (x)
        to = Concat <axis = 0> (b, ones)
        m = Expand (mask, to)
        s2 = Add (s, m)
    """
    model = written(PLAIN + lines + SOFT.replace("(s)", "(s2)") + END, **MERGED, ones=i64(1, N, N), mask=MASK[:1, None])
    np.testing.assert_array_equal(the_one(model).bias, MASK[:1, None])


OTHERS = {
    "a softmax over the queries": ("last axis", PLAIN + "p = Softmax <axis = 2> (s)\n o = MatMul (p, v)\n" + END),
    "weights that something else reads": (
        "not multiplied with values",
        PLAIN + SOFT + "p2 = Neg (p)\n o2 = MatMul (p2, v)\n o3 = Sub (o, o2)\n" + END.replace("(o)", "(o3)"),
    ),
    "weights that are dropped from": (
        "not multiplied with values",
        PLAIN + "p = Softmax <axis = -1> (s)\n p2 = Mul (p, two)\n o = MatMul (p2, v)\n" + END,
    ),
    "a softmax that is no attention": (
        "not a product",
        PLAIN.replace("s = MatMul (q, kt)", "s = Mul (image3, two)").replace(KEYS, "image3 = Reshape (image, sq)\n")
        + "p = Softmax <axis = -1> (s)\n o = MatMul (p, v)\n"
        + END,
    ),
    "values that are scaled": (
        "values are scaled",
        PLAIN + "v2 = Mul (v, two)\n p = Softmax <axis = -1> (s)\n o = MatMul (p, v2)\n" + END,
    ),
    "values of another activation": (
        "windows and heads",
        PLAIN + "v2 = Relu (v)\n p = Softmax <axis = -1> (s)\n o = MatMul (p, v2)\n" + END,
    ),
    "heads that are added up": (
        "side by side",
        PLAIN
        + SOFT
        + "h = ReduceSum <keepdims = 1> (o, axis1)\n hh = Expand (h, four3)\n"
        + END.replace("(o)", "(hh)"),
    ),
    "features of a head side by side with another's": (
        "side by side",
        PLAIN + SOFT + END.replace("perm = [0, 2, 1, 3]", "perm = [0, 2, 3, 1]"),
    ),
    "a head's tokens side by side": ("side by side", PLAIN + SOFT + "r9 = Reshape (o, merged)\n y = MatMul (r9, wo)\n"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_refused(case):
    says, lines = OTHERS[case]
    more = {"two": np.float32(2), "sq": i64(-1, 1, N, N), "axis1": i64(1), "four3": i64(1, H, 1, 1)}
    here, refused = found(written(lines, **MERGED, **more))
    assert not here and says in refused[0]


def test_refused_weights_that_are_an_output():
    model = with_outputs(attention(), "p")
    assert "are an output" in refusal(model)


def test_refused_fewer_heads_of_keys_than_of_queries():
    lines = LINEARS + HEADS.replace("Reshape (ka, four)", "Reshape (ka, single)").replace(
        "Reshape (va, four)", "Reshape (va, single)"
    )
    weights = MERGED | {n: v[..., :D] for n, v in WEIGHTS.items() if n[1] in "kv"} | {"single": i64(-1, N, 1, D)}
    model = written(lines + KEYS + "s = MatMul (q, kt)\n" + SOFT + END, **weights)
    assert "windows and heads" in refusal(model)


def test_refused_a_bias_that_makes_several_attentions_of_one():
    """Three masks for one product: its softmax has an axis more than its scores."""
    lines = PLAIN + "s2 = Add (s, masks)\n" + SOFT.replace("(s)", "(s2)") + "o4 = ReduceMean <keepdims = 0> (o, zero)\n"
    model = written(lines + END.replace("(o)", "(o4)"), **MERGED, masks=f32(3, 1, 1, N, N), zero=i64(0))
    assert found(model)[0] == []


def test_refused_a_fixed_batch():
    """Images that are counted nowhere cannot be told apart."""
    model = attention()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    assert "no batch axis" in refusal(model)


def test_refused_windows_of_several_images():
    """An axis of two that is half of all rows, whatever the batch: two images look as if it told them apart."""
    lines = LINEARS + "".join(
        f"{c}r = Reshape ({c}a, halves)\n {c} = Transpose <perm = [0, 2, 1, 3]> ({c}r)\n" for c in "qkv"
    )
    lines += KEYS + "s = MatMul (q, kt)\n" + SOFT + END
    model = written(lines, **MERGED, halves=i64(2, -1, H, D))
    here, refused = found(model)
    assert not here and refused


def test_queries_and_keys_of_other_tokens():
    """Cross attention: keys and values of more tokens than queries, from another tensor."""
    model = cross()
    a = the_one(model)
    assert a.q.rows.shape == (1, 2) and a.k.rows.shape == (1, 5) and a.v.rows.shape == (1, 5)


def cross(features=D, **more):
    lines = LINEARS.replace("MatMul (x, wk)", "MatMul (m, wk)").replace("MatMul (x, wv)", "MatMul (m, wv)")
    lines += HEADS.replace("(qa, four)", "(qa, q4)").replace("(ka, four)", "(ka, k4)").replace("(va, four)", "(va, v4)")
    weights = WEIGHTS | {n: f32(*v.shape[:-1], H * features) for n, v in WEIGHTS.items() if n[1] == "v"} | more
    return graph(
        f"(float[batch, 2, {C}] x, float[batch, 5, {C}] m) => (float[batch, 2, {C}] y) "
        f"{{ {lines + KEYS} s = MatMul (q, kt)\n {SOFT + END} }}",
        **weights,
        q4=i64(-1, 2, H, D),
        k4=i64(-1, 5, H, D),
        v4=i64(-1, 5, H, features),
        merged=i64(-1, 2, H * features),
        wo=f32(H * features, C),
        bo=f32(C),
    )
