from math import prod

import numpy as np
import pytest
from graphs import f32, graph

from exporter import flops


def count(model, batch=3):
    counts = flops.per_node(model, batch)
    assert all(type(v) is int for v in counts.values())
    return counts


def only(text, batch=3, opset=22, **weights):
    (number,) = count(graph(text, opset=opset, **weights), batch).values()
    return number


@pytest.mark.parametrize(
    "a, b, out, wanted",
    [
        ("batch, 4", (4, 5), "batch, 5", 2 * 3 * 4 * 5),
        ("batch, 7, 4", (4, 5), "batch, 7, 5", 2 * 3 * 7 * 4 * 5),
        ("batch, 2, 7, 4", (2, 4, 5), "batch, 2, 7, 5", 2 * 3 * 2 * 7 * 4 * 5),
        ("batch, 4", (4,), "batch", 2 * 3 * 4),
        ("4", (3, 4, 5), "3, 5", 2 * 3 * 4 * 5),
        ("4", (4,), "", 2 * 4),
    ],
)
def test_matmul(a, b, out, wanted):
    out = f"float[{out}]" if out else "float"
    assert only(f"(float[{a}] x) => ({out} y) {{ y = MatMul (x, w) }}", w=f32(*b)) == wanted


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_a_product_of_two_activations_grows_with_the_batch(batch):
    text = "(float[batch, 2, 9, 4] q, float[batch, 2, 4, 11] k) => (float[batch, 2, 9, 11] y) { y = MatMul (q, k) }"
    assert only(text, batch) == 2 * batch * 2 * 9 * 4 * 11


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
def test_gemm(trans_a, trans_b):
    a = "6, batch" if trans_a else "batch, 6"
    w = f32(5, 6) if trans_b else f32(6, 5)
    text = f"(float[{a}] x) => (float[n, 5] y) {{ y = Gemm <transA = {trans_a}, transB = {trans_b}> (x, w, c) }}"
    model = graph(text, w=w, c=f32(5))
    if trans_a:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    assert list(count(model).values()) == [2 * 3 * 6 * 5]


@pytest.mark.parametrize(
    "weight, attributes, out",
    [
        ((8, 4, 3, 3), "", (8, 14, 14)),
        ((8, 4, 4, 4), "strides = [4, 4]", (8, 4, 4)),
        ((8, 2, 3, 3), "group = 2, pads = [1, 1, 1, 1]", (8, 16, 16)),
        ((4, 1, 3, 3), "group = 4, strides = [2, 2]", (4, 7, 7)),
        ((8, 4, 3, 3), "dilations = [2, 2]", (8, 12, 12)),
    ],
)
def test_conv(weight, attributes, out):
    text = "(float[batch, 4, 16, 16] x) => (float[batch, k, h, v] y)"
    text += f" {{ y = Conv {f'<{attributes}>' if attributes else ''} (x, w, b) }}"
    assert only(text, w=f32(*weight), b=f32(weight[0])) == 2 * 3 * prod(out) * prod(weight[1:])


@pytest.mark.parametrize("weight, attributes", [((4, 8, 2, 2), "strides = [2, 2]"), ((4, 4, 3, 3), "group = 2")])
def test_conv_transpose(weight, attributes):
    """Each input element is multiplied with its own kernel, for every output channel of its group."""
    text = f"(float[batch, 4, 5, 5] x) => (float[batch, k, h, v] y) {{ y = ConvTranspose <{attributes}> (x, w) }}"
    assert only(text, w=f32(*weight)) == 2 * 3 * 4 * 5 * 5 * prod(weight[1:])


def test_attention_of_four_axes():
    text = """(float[batch, 2, 7, 8] q, float[batch, 2, 9, 8] k, float[batch, 2, 9, 6] v)
              => (float[batch, 2, 7, 6] y)
              { y = Attention (q, k, v) }"""
    assert only(text, opset=23) == 2 * 3 * 2 * 7 * 9 * (8 + 6)


def test_attention_of_three_axes_counts_the_same():
    text = """(float[batch, 7, 16] q, float[batch, 9, 16] k, float[batch, 9, 12] v) => (float[batch, 7, 12] y)
              { y = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, v) }"""
    assert only(text, opset=23) == 2 * 3 * 2 * 7 * 9 * (8 + 6)


@pytest.mark.parametrize("axes", [3, 4])
def test_attention_whose_heads_share_keys(axes):
    """Four heads of 8 and 6, two heads of keys and values: each of the four multiplies."""
    texts = {
        3: """(float[batch, 7, 32] q, float[batch, 9, 16] k, float[batch, 9, 12] v) => (float[batch, 7, 24] y)
              { y = Attention <q_num_heads = 4, kv_num_heads = 2> (q, k, v) }""",
        4: """(float[batch, 4, 7, 8] q, float[batch, 2, 9, 8] k, float[batch, 2, 9, 6] v)
              => (float[batch, 4, 7, 6] y)
              { y = Attention (q, k, v) }""",
    }
    assert only(texts[axes], opset=23) == 2 * 3 * 4 * 7 * 9 * (8 + 6)


def test_attention_counts_what_its_decomposition_counts():
    whole = """(float[batch, 2, 7, 8] q, float[batch, 2, 9, 8] k, float[batch, 2, 9, 6] v)
              => (float[batch, 2, 7, 6] y)
               { y = Attention (q, k, v) }"""
    parts = """(float[batch, 2, 7, 8] q, float[batch, 2, 9, 8] k, float[batch, 2, 9, 6] v)
              => (float[batch, 2, 7, 6] y)
               { t = Transpose <perm = [0, 1, 3, 2]> (k)
                 s = MatMul (q, t)
                 p = Softmax <axis = -1> (s)
                 y = MatMul (p, v) }"""
    assert only(whole, opset=23) == sum(count(graph(parts)).values())


def test_only_products_are_counted_and_each_by_its_name():
    model = graph(
        """(float[batch, 4] x) => (float[batch, 5] y) {
            a = MatMul (x, w)
            b = Add (a, c)
            g = Relu (b)
            y = MatMul (g, v)
        }""",
        w=f32(4, 8),
        c=f32(8),
        v=f32(8, 5),
    )
    assert count(model) == {"blocks.0/MatMul_0": 2 * 3 * 4 * 8, "blocks.0/MatMul_3": 2 * 3 * 8 * 5}


def test_half_precision_counts_the_same():
    text = "(float16[batch, 4] x) => (float16[batch, 5] y) { y = MatMul (x, w) }"
    assert only(text, w=f32(4, 5).astype(np.float16)) == 2 * 3 * 4 * 5


def test_a_product_of_unknown_shape_is_an_error_and_not_zero():
    model = graph(
        "(float[batch, 4] x) => (float[n, m] y) { h = NonZero (x)\n f = Cast <to = 1> (h)\n"
        " t = Transpose (f)\n y = MatMul (t, f) }"
    )
    with pytest.raises(ValueError, match=r"MatMul blocks\.0/MatMul_3"):
        flops.per_node(model, 3)


def test_a_vit_counts_what_torch_counts(tiny_vit):
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    module, model = tiny_vit
    counter = FlopCounterMode(display=False)
    with (
        counter,
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
    ):  # torch does not count the fused kernel of a CPU
        module(torch.zeros(3, 3, 32, 32))
    assert sum(flops.per_node(model, 3).values()) == counter.get_total_flops() > 0


def test_a_vit_counts_the_closed_formula(tiny_vit):
    _, model = tiny_vit
    tokens, width, depth, classes = 5, 32, 2, 5
    patches = 4 * width * 3 * 16 * 16
    block = tokens * width * 12 * width + 2 * tokens * tokens * width
    assert sum(flops.per_node(model, 3).values()) == 2 * 3 * (patches + depth * block + width * classes)
