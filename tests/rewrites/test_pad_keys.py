"""Attentions of 2 heads, 7 queries, 7 keys of 4 features: the keys become 8."""

import numpy as np
import onnx
import pytest
from graphs import apply, f32, feed, graph, i64, initializer, ops, rewritten, run

from exporter.rewrites.pad_keys import LOWEST

NAME = "pad_keys"
Q = "q = Relu (x) kt = Transpose <perm = [0, 1, 3, 2]> (x) s = MatMul (q, kt)"
END = "p = Softmax <axis = -1> (last) y = MatMul (p, x)"
CONSTANTS = {"bias": f32(1, 2, 7, 7), "number": f32(2, 1, 1), "windows": i64(-1, 1, 2, 7, 7), "heads": i64(-1, 2, 7, 7),
             "small": np.float32(1e-4), "mask": f32(1, 1, 1, 7),
             "keyed": f32(7), "night": np.full((7, 7), -1e9, np.float32)}  # fmt: skip


def attention(*steps, keys=7, out="float[batch, 2, 7, 4] y", q=Q, end=END):
    """The scores ``s`` through ``steps``, the last of which makes ``last``."""
    text = " ".join((q, *steps, end))
    used = {k: v for k, v in CONSTANTS.items() if f"{k})" in text or f"({k}," in text}
    return graph(f"(float[batch, 2, {keys}, 4] x) => ({out}) {{ {text} }}", **used)


def padded(model):
    after = rewritten(NAME, model, 1, close=True)
    assert ops(after).count("Pad") == 2
    return after


def softmax_width(model):
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    node = next(n for n in model.graph.node if n.op_type == "Softmax")
    value = next(v for v in inferred.graph.value_info if v.name == node.input[0])
    return value.type.tensor_type.shape.dim[-1].dim_value


def test_the_bias_hides_the_new_keys():
    after = padded(attention("last = Add (s, bias)"))
    hidden = initializer(after, "bias/hidden")
    assert hidden.shape == (1, 2, 7, 8) and (hidden[..., 7] == LOWEST).all() and softmax_width(after) == 8
    assert ops(after).count("Add") == 1


def test_the_new_keys_weigh_nothing_at_all():
    after = padded(attention("last = Add (s, bias)"))
    after.graph.output.append(onnx.helper.make_tensor_value_info("p", onnx.TensorProto.FLOAT, None))
    assert (run(after, feed(after, 3))["p"][..., 7] == 0).all()


def test_without_a_bias_a_mask_is_added():
    after = padded(attention(q=Q.replace("s = ", "last = ")))
    assert ops(after).count("Add") == 1 and softmax_width(after) == 8


@pytest.mark.parametrize("steps", [
    ("t = Reshape (s, windows) u = Add (t, mask) last = Reshape (u, heads)",),
    ("t = Add (s, bias) last = Add (t, number)",),  # one number a head: nothing to pad
    ("t = Add (s, bias) last = Add (bias, t)",),
    ("t = Mul (s, number) last = Add (t, bias)",),
])  # fmt: skip
def test_whatever_stands_between_the_product_and_the_softmax(steps):
    assert softmax_width(padded(attention(*steps))) == 8


def test_a_scale_behind_the_bias_does_not_bring_the_new_keys_back():
    after = padded(
        attention("t = Add (s, bias) last = Mul (t, small)")
    )  # LOWEST times 1e-4 would be a score like others
    assert ops(after).count("Add") == 2


@pytest.mark.parametrize("steps", [("last = Mul (s, keyed)",), ("t = Add (s, bias) last = Mul (t, keyed)",)])
def test_a_factor_for_each_key_hides_nothing(steps):
    after = padded(attention(*steps))
    assert ops(after).count("Add") == 1 + steps[0].count("Add")  # one that hides the new keys, beside the bias's


def test_as_many_keys_as_a_shape_has_axes():
    text = (
        "{ kt = Transpose <perm = [0, 1, 3, 2]> (x) s = MatMul (x, kt) t = Add (s, bias) u = Reshape (t, shape) "
        "p = Softmax <axis = -1> (u) y = MatMul (p, x) }"
    )
    model = graph(
        f"(float[batch, 2, 4, 3] x) => (float[batch, 2, 4, 3] y) {text}", bias=f32(2, 4, 4), shape=i64(-1, 2, 4, 4)
    )
    five = graph(
        f"(float[batch, 2, 5, 3] x) => (float[batch, 2, 5, 3] y) {text}".replace("u = Reshape (t, shape)", "w = "
        "Reshape (t, more) u = Reshape (w, shape)"),
        bias=f32(2, 5, 5), more=i64(-1, 1, 2, 5, 5), shape=i64(-1, 2, 5, 5),
    )  # fmt: skip
    for made in (model, five):
        after = rewritten(NAME, made, 1, close=True)
        assert softmax_width(after) == 8


def test_one_bias_for_two_attentions_stays_one():
    second = "r = MatMul (q, kt) r1 = Add (r, bias) p2 = Softmax <axis = -1> (r1) y2 = MatMul (p2, x)"
    model = attention("last = Add (s, bias)", second, end=END.replace("y = ", "y1 = ") + " y = Add (y1, y2)")
    after = rewritten(NAME, model, 2, close=True)
    assert [t.name for t in after.graph.initializer].count("bias/hidden") == 1


def test_eight_keys_are_left_alone():
    model = graph(
        "(float[batch, 8, 4] x) => (float[batch, 8, 4] y) { kt = Transpose <perm = [0, 2, 1]> (x) s = MatMul (x, kt) "
        "p = Softmax <axis = -1> (s) y = MatMul (p, x) }"
    )
    rewritten(NAME, model, 0)


@pytest.mark.parametrize("steps, changed, says", [
    (("last = Add (s, x2)",), {"q": Q + " x2 = MatMul (x, kt)"}, "goes through Add"),
    (("last = Add (s, bias)",), {"out": "float[batch, 2, 7, 4] y, float[batch, 2, 7, 7] s"}, "other readers"),
    (("last = Add (s, bias)",),
     {"end": END + " z = Neg (p)", "out": "float[batch, 2, 7, 4] y, float[batch, 2, 7, 7] z"}, "other readers"),
    (("last = Clip (s)",), {}, "go through Clip"),
    (("last = Add (s, night)",), {}, "hides every key"),
    (("last = Add (s, bias)",), {"end": END.replace("-1", "2")}, "not over the last axis"),
])  # fmt: skip
def test_what_looks_alike_stays(steps, changed, says):
    why = {}
    matches, after = apply(NAME, attention(*steps, **changed), refused=why)
    assert matches == 0 and "Pad" not in ops(after)
    assert says.replace("goes", "go") in next(iter(why.values()))
