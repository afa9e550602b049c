import numpy as np
import pytest
from graphs import f32, graph, i64, ops, rewritten, with_outputs

NAME = "patch_embedding"
LAST = "f = Reshape (c, flat)\n y = Transpose <perm = [0, 2, 1]> (f)"


def embedding(conv="Conv <strides = [2, 4]> (x, w, b)", after=LAST, size=(8, 12), opset=22, **more):
    weights = {"w": f32(5, 3, 2, 4), "b": f32(5), "flat": i64(0, 5, -1)} | more
    used = {k: v for k, v in weights.items() if f" {k}" in conv + after or f", {k}" in conv + after}
    h, w = size
    return graph(f"(float[batch, 3, {h}, {w}] x) => (float[k, l, m] y) {{ c = {conv}\n {after} }}", opset, **used)


CHANNELS_LAST = {
    "Reshape, Transpose": LAST,
    "Transpose, Reshape": "t = Transpose <perm = [0, 2, 3, 1]> (c)\n y = Reshape (t, tokens)",
    "Transpose alone": "t = Transpose <perm = [0, 2, 3, 1]> (c)\n e = Exp (t)\n y = Reshape (e, tokens)",
    "two readers": "t = Transpose <perm = [0, 2, 3, 1]> (c)\n a = Reshape (t, tokens)\n f = Reshape (c, flat)\n"
    "b2 = Transpose <perm = [0, 2, 1]> (f)\n y = Sub (a, b2)",
    "two readers below one": "f = Reshape (c, flat)\n a = Transpose <perm = [0, 2, 1]> (f)\n"
    "b2 = Transpose <perm = [0, 2, 1]> (f)\n y = Add (a, b2)",
    "the rows of all images": "t = Transpose <perm = [0, 2, 3, 1]> (c)\n r = Reshape (t, rows)\n e = Exp (r)\n"
    "y = Reshape (e, tokens)",
    "the rows of all images, with an axis of one in front": "t = Transpose <perm = [0, 2, 3, 1]> (c)\n"
    "r = Reshape (t, one)\n e = Exp (r)\n y = Reshape (e, tokens)",
}
SHAPES = {"tokens": i64(-1, 12, 5), "rows": i64(-1, 5), "one": i64(1, -1, 5)}


@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize("case", CHANNELS_LAST)
def test_a_convolution_becomes_a_product(case, opset):
    after = rewritten(NAME, embedding(after=CHANNELS_LAST[case], opset=opset, **SHAPES), 1, close=True)
    assert "Conv" not in ops(after) and ops(after).count("MatMul") == 1


@pytest.mark.parametrize(
    "conv", ["Conv <strides = [2, 4]> (x, w)", "Conv <strides = [2, 4], pads = [0, 0, 0, 0]> (x, w)"]
)
def test_without_a_bias(conv):
    assert "Add" not in ops(rewritten(NAME, embedding(conv), 1, close=True))


def test_all_attributes_written_out():
    attributes = 'kernel_shape = [2, 4], strides = [2, 4], dilations = [1, 1], group = 1, auto_pad = "NOTSET"'
    rewritten(NAME, embedding(f"Conv <{attributes}> (x, w, b)"), 1, close=True)


REFUSED = {
    "overlapping": ("Conv <strides = [2, 2]> (x, w, b)", LAST),
    "gaps": ("Conv <strides = [3, 4]> (x, w, b)", LAST),
    "no strides": ("Conv (x, w, b)", LAST),
    "padded": ("Conv <strides = [2, 4], pads = [0, 2, 0, 2]> (x, w, b)", LAST),
    "dilated": ("Conv <strides = [2, 4], dilations = [2, 1]> (x, w, b)", LAST),
    "padded by the operator": ('Conv <strides = [2, 4], auto_pad = "SAME_UPPER"> (x, w, b)', LAST),
    "one pixel": ("Conv (x, w1, b)", LAST),
    "channels stay first": ("Conv <strides = [2, 4]> (x, w, b)", "y = Reshape (c, flat)"),
    "read with the channels first": (
        "Conv <strides = [2, 4]> (x, w, b)",
        "f = Reshape (c, flat)\n a = Transpose <perm = [0, 2, 1]> (f)\n s = ReduceMean <keepdims = 1> (c)\n"
        "r = Reshape (s, one)\n y = Add (a, r)",
    ),
    "columns before rows": (
        "Conv <strides = [2, 4]> (x, w, b)",
        "t = Transpose <perm = [0, 3, 2, 1]> (c)\n y = Reshape (t, tokens)",
    ),
    "read by an operator": ("Conv <strides = [2, 4]> (x, w, b)", "e = Relu (c)\n" + LAST.replace("(c,", "(e,")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    conv, after = REFUSED[case]
    more = {"w1": f32(5, 3, 1, 1), "one": i64(1, 1, 1), "tokens": i64(-1, 12, 5)}
    model = embedding(conv, after, **more)
    assert "MatMul" not in ops(rewritten(NAME, model, 0))


def test_refused_groups():
    model = embedding(
        "Conv <strides = [2, 4], group = 3> (x, wg)", LAST.replace("flat", "six"), wg=f32(6, 1, 2, 4), six=i64(0, 6, -1)
    )
    assert "Conv" in ops(rewritten(NAME, model, 0))


def test_refused_an_image_that_is_no_multiple_of_the_patch():
    assert "Conv" in ops(rewritten(NAME, embedding(size=(9, 12)), 0))


def test_refused_a_weight_that_is_computed():
    model = embedding("Conv <strides = [2, 4]> (x, w2, b)", LAST, w=f32(5, 3, 2, 4))
    node = model.graph.node.add(op_type="Neg", name="blocks.0/Neg_9", input=["w"], output=["w2"])
    model.graph.node.insert(0, node)
    del model.graph.node[-1]
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(f32(5, 3, 2, 4), "w"))
    assert "Conv" in ops(rewritten(NAME, model, 0))


def test_refused_a_result_that_is_an_output():
    assert "Conv" in ops(rewritten(NAME, with_outputs(embedding(), "c"), 0))


def test_a_sink_that_is_an_output():
    after = rewritten(
        NAME, with_outputs(embedding(after=LAST.replace("y =", "t =") + "\n y = Exp (t)"), "t"), 1, close=True
    )
    assert "Conv" not in ops(after)


def test_two_of_them():
    model = graph(
        """(float[batch, 3, 4, 4] x) => (float[k, l, m] y) {
            a = Conv <strides = [2, 2]> (x, w, b)
            at = Transpose <perm = [0, 2, 3, 1]> (a)
            c = Conv <strides = [4, 4]> (x, v)
            ct = Transpose <perm = [0, 2, 3, 1]> (c)
            s = Add (at, ct)
            y = Reshape (s, to)
        }""",
        w=f32(5, 3, 2, 2),
        b=f32(5),
        v=f32(5, 3, 4, 4),
        to=i64(-1, 4, 5),
    )
    assert "Conv" not in ops(rewritten(NAME, model, 2, close=True))


def test_nothing_to_find():
    model = graph("(float[batch, 4] x) => (float[batch, 4] y) { y = Exp (x) }")
    assert ops(rewritten(NAME, model, 0)) == ["Exp"]


def test_the_product_is_the_convolution_to_the_last_digits():
    model = embedding()
    after = rewritten(NAME, model, 1, close=True)
    (weight,) = (t for t in after.graph.initializer if list(t.dims) == [24, 5])
    from onnx import numpy_helper

    np.testing.assert_array_equal(numpy_helper.to_array(weight), f32(5, 3, 2, 4).reshape(5, -1).T)
