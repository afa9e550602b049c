"""(B, 5 tokens, 6 channels), mixed to 7 and back to 5."""

import numpy as np
import pytest
from graphs import apply, assert_close, f32, feed, graph, initializer, ops, rewritten, run, with_outputs
from hypothesis import given, settings
from hypothesis import strategies as st

NAME = "token_mixing"
SWAP = "Transpose <perm = [0, 2, 1]>"
WEIGHTS = {"w": f32(5, 7), "b": f32(7, seed=1), "v": f32(7, 5, seed=2), "c": f32(5, seed=3)}


def mixed(text, out="batch, 5, 6", x="batch, 5, 6", opset=22, **weights):
    used = WEIGHTS | weights
    used = {k: v for k, v in used.items() if f" {k})" in text or f"({k}," in text}
    return graph(f"(float[{x}] x) => (float[{out}] y) {{ {text} }}", opset, **used)


MLP = f"""t = {SWAP} (x)  m = MatMul (t, w)  a = Add (m, b)  g = Gelu (a)
          n = MatMul (g, v)  d = Add (n, c)  u = {SWAP} (d)  y = Add (u, x)"""


def test_an_mlp_over_the_tokens_is_multiplied_from_the_left():
    before = mixed(MLP)
    after = rewritten(NAME, before, 1, close=True)
    found = [n for n in after.graph.node if n.op_type != "Reshape"]
    assert [n.op_type for n in found] == ["MatMul", "Add", "Gelu", "MatMul", "Add", "Add"]
    assert [n.name for n in found] == [n.name for n in before.graph.node if n.op_type != "Transpose"]
    assert np.array_equal(initializer(after, found[0].input[0]), WEIGHTS["w"].T)
    assert initializer(after, found[1].input[1]).shape == (7, 1)


def test_the_sum_with_the_residual_is_on_rows():
    after = rewritten(NAME, with_outputs(mixed(MLP), "d"), 0)  # the mixed values are read elsewhere
    assert "Reshape" not in ops(after)
    after = with_outputs(rewritten(NAME, mixed(MLP), 1, close=True), "y/rows")
    assert run(after, feed(after, 3))["y/rows"].shape == (15, 6)
    assert ops(after).count("Reshape") == 3


@pytest.mark.parametrize("sum, used", [
    ("y = Add (u, r)", {"r": f32(5, 6)}),
    ("r = ReduceMean <keepdims = 1> (x, axis)  y = Add (r, u)", {"axis": np.int64([1])}),
    ("y = Mul (u, x)", {}),
    ("s = Mul (u, r)  y = Add (s, x)", {"r": f32(6)}),
    ("r = ReduceMean <keepdims = 1> (x, axis)  y = Add (u, r)", {"axis": np.int64([0])}),
])  # fmt: skip
def test_another_sum_is_left_as_it_is(sum, used):
    model = graph(f"(float[batch, 5, 6] x) => (float[batch, 5, 6] y) {{ t = {SWAP} (x)  m = MatMul (t, w)  "
                  f"u = {SWAP} (m)  {sum} }}", w=f32(5, 5), **used)  # fmt: skip
    assert "Reshape" not in ops(rewritten(NAME, model, 1, close=True))


@pytest.mark.parametrize("source, weight", [
    ("s = ReduceMean <keepdims = 1> (x, axis)", (5, 5)),  # one channel, repeated for all
    ("s = Neg (x)", (5, 1)),  # one token, repeated for all
])  # fmt: skip
def test_a_sum_that_repeats_what_was_mixed_is_left_as_it_is(source, weight):
    text = f"{source}  t = {SWAP} (s)  m = MatMul (t, w)  u = {SWAP} (m)  y = Add (u, x)"
    used = {"axis": np.int64([2])} if "axis" in source else {}
    for out in (5, 6):
        size = weight if out == 5 else tuple(6 if n == 5 else n for n in weight)
        model = graph(f"(float[batch, {out}, 6] x) => (float[batch, {out}, 6] y) {{ {text} }}", w=f32(*size), **used)
        assert "Reshape" not in ops(rewritten(NAME, model, 1, close=True))


def test_a_size_that_is_not_known_is_left_as_it_is():
    model = mixed(MLP, "batch, 5, c", "batch, 5, c")
    assert "Reshape" not in ops(rewritten(NAME, model, 1, close=True))


def test_nodes_without_names():
    model = mixed(
        f"t = {SWAP} (x)  m = MatMul (t, w)  a = Add (m, b)  n = MatMul (a, v)  d = Add (n, c)  y = {SWAP} (d)"
    )
    for node in model.graph.node:
        node.name = ""
    assert_close(model, apply(NAME, model)[1])


SINGLE = f"t = {SWAP} (x)  m = MatMul (t, w)  y = {SWAP} (m)"


@pytest.mark.parametrize("opset", [17, 22])
def test_one_product_and_an_output_that_keeps_its_name(opset):
    after = rewritten(NAME, mixed(SINGLE, "batch, 7, 6", opset=opset), 1, close=True)
    assert ops(after) == ["MatMul"] and after.graph.output[0].name == "y"


@pytest.mark.parametrize("text, used", [
    ("a = Mul (m, b)", {}),
    ("a = Sub (b, m)", {"b": f32(7)}),
    ("a = Div (m, b)", {"b": 2 + np.abs(f32(6, 1))}),
    ("a = Add (m, b)", {"b": f32(1, 6, 7)}),
    ("a = Max (m, b)", {"b": np.float32(0.5)}),
    ("a = Clip (m, b)", {"b": np.float32(-0.5)}),
    ("a = Tanh (m)", {}),
])  # fmt: skip
def test_what_is_done_to_each_element_turns_with_it(text, used):
    model = mixed(SINGLE.replace("(m)", "(a)").replace("y =", f"{text}  y ="), "batch, 7, 6", **used)
    after = rewritten(NAME, model, 1, close=True)
    assert ops(after) == ["MatMul", text.split()[2]]


def test_several_axes_before_the_tokens_and_two_that_turn_back():
    text = """t = Transpose <perm = [0, 1, 3, 2]> (x)  m = MatMul (t, w)  o = Transpose <perm = [0, 1, 3, 2]> (m)
              p = Transpose <perm = [0, 1, 3, 2]> (m)  q = Neg (o)  y = Mul (q, p)"""
    after = rewritten(NAME, mixed(text, "batch, 3, 7, 6", "batch, 3, 5, 6"), 1, close=True)
    assert ops(after) == ["MatMul", "Neg", "Mul"]


def test_two_outputs_of_one_chain_keep_both_names():
    text = f"t = {SWAP} (x)  m = MatMul (t, w)  y = {SWAP} (m)  z = {SWAP} (m)"
    model = graph(f"(float[batch, 5, 6] x) => (float[batch, 7, 6] y, float[batch, 7, 6] z) {{ {text} }}", w=f32(5, 7))
    after = rewritten(NAME, model, 1, close=True)
    assert [o.name for o in after.graph.output] == ["y", "z"] and "Transpose" not in ops(after)


def test_two_chains_one_after_the_other():
    text = SINGLE.replace("y =", "o =") + f"  r = {SWAP} (o)  s = Relu (r)  k = MatMul (s, v)  y = {SWAP} (k)"
    assert ops(rewritten(NAME, mixed(text), 2, close=True)) == ["MatMul", "Relu", "MatMul"]


NEAR = {
    "a softmax over the tokens": (f"t = {SWAP} (x)  m = MatMul (t, w)  s = Softmax (m)  y = {SWAP} (s)", 7),
    "not turned back": ("t = " + SWAP + " (x)  m = MatMul (t, w)  y = Relu (m)", None),
    "another reader": (f"t = {SWAP} (x)  m = MatMul (t, w)  o = {SWAP} (m)  r = ReduceSum (m)  y = Add (o, r)", 7),
    "turned another way": (f"t = {SWAP} (x)  m = MatMul (t, w)  y = Transpose <perm = [1, 2, 0]> (m)", None),
}


@pytest.mark.parametrize("case", NEAR)
def test_what_looks_alike_stays_and_says_why(case):
    text, rows = NEAR[case]
    why = {}
    model = mixed(text, f"batch, {rows}, 6" if rows else "i, j, k")
    matches, after = apply(NAME, model, refused=why)
    assert matches == 0 and ops(after) == ops(model)
    assert [name for name, text in why.items() if "not transposed back" in text] == ["blocks.0/Transpose_0"]


SILENT = {
    "the batch is exchanged": ("t = Transpose <perm = [1, 0, 2]> (x)  m = MatMul (t, s)  "
                               "y = Transpose <perm = [1, 0, 2]> (m)", {"s": f32(6, 6)}, "batch, 5, 6"),
    "no weight between": (f"t = {SWAP} (x)  m = Relu (t)  y = {SWAP} (m)", {}, "batch, 5, 6"),
    "a weight of three axes": (f"t = {SWAP} (x)  m = MatMul (t, s)  y = {SWAP} (m)",
                               {"s": f32(1, 5, 7)}, "batch, 7, 6"),
    "a weight on the left": (f"t = {SWAP} (x)  m = MatMul (s, t)  y = {SWAP} (m)", {"s": f32(4, 6)}, "batch, 5, 4"),
    "a product of two activations": (f"t = {SWAP} (x)  m = MatMul (t, x)  y = {SWAP} (m)", {}, "batch, 6, 6"),
    "a normalisation first": (f"t = {SWAP} (x)  l = Softmax (t)  m = MatMul (l, w)  y = {SWAP} (m)", {}, "batch, 7, 6"),
    "a vector": (f"t = {SWAP} (x)  m = MatMul (t, s)  y = Neg (m)", {"s": f32(5)}, "batch, 6"),
    "read beside the product": (f"t = {SWAP} (x)  m = MatMul (t, s)  o = {SWAP} (m)  p = {SWAP} (t)  y = Add (o, p)",
                                {"s": f32(5, 5)}, "batch, 5, 6"),
}  # fmt: skip


@pytest.mark.parametrize("case", SILENT)
def test_what_is_no_mixing_of_tokens_stays(case):
    text, used, out = SILENT[case]
    model = mixed(text, out, **used)
    assert ops(rewritten(NAME, model, 0)) == ops(model)


STEPS = {"Add": "{o} = Add ({i}, {k})", "Mul": "{o} = Mul ({k}, {i})", "Gelu": "{o} = Gelu ({i})",
         "Tanh": "{o} = Tanh ({i})", "MatMul": "{o} = MatMul ({i}, {k})"}  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.integers(1, 9), channels=st.integers(1, 9), steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=6),
    sizes=st.lists(st.integers(1, 9), min_size=7, max_size=7),
)  # fmt: skip
def test_any_chain_of_any_size(tokens, channels, steps, sizes):
    lines, weights, width, tensor = [f"t = {SWAP} (x)"], {}, tokens, "t"
    for i, step in enumerate([*steps, "MatMul"]):
        size = sizes[i] if step == "MatMul" else width
        weights[f"k{i}"] = f32(width, size, seed=i) if step == "MatMul" else f32(size, seed=i)
        lines.append(STEPS[step].format(i=tensor, o=f"o{i}", k=f"k{i}"))
        tensor, width = f"o{i}", size
    lines.append(f"y = {SWAP} ({tensor})")
    text = "  ".join(lines)
    used = {k: v for k, v in weights.items() if f" {k})" in text or f"({k}," in text}
    model = graph(f"(float[b, {tokens}, {channels}] x) => (float[b, {width}, {channels}] y) {{ {text} }}", **used)
    assert "Transpose" not in ops(rewritten(NAME, model, 1, close=True))
