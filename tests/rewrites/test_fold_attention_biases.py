import numpy as np
import onnx
import pytest
from attentions import attention
from graphs import apply, f32, i64, initializer, ops, rewritten, with_outputs
from test_attention import cosine, cross, second

NAME = "fold_attention_biases"


def formed(model):
    return apply("attention_form", model)[1]


def adds(model):
    return ops(model).count("Add")


@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize("projection", ["three layers", "gather"])
def test_the_biases_of_keys_and_values_go(projection, opset):
    model = formed(attention(projection, opset=opset))
    after = rewritten(NAME, model, 2, close=True)
    assert adds(after) == adds(model) - 2


def test_an_attention_as_it_was_exported():
    after = rewritten(NAME, attention("three layers"), 2, close=True)
    assert adds(after) == adds(attention("three layers")) - 2


def test_without_a_bias_after_it_the_layer_gets_one():
    model = attention(end=NO_BIAS)
    after = rewritten(NAME, model, 2, close=True)
    assert adds(after) == adds(model) - 1


NO_BIAS = "ot = Transpose <perm = [0, 2, 1, 3]> (o)\n r9 = Reshape (ot, merged)\n y = MatMul (r9, wo)\n"


def test_a_layer_without_a_bias_that_is_read_and_is_no_output():
    end = NO_BIAS.replace("y =", "y0 =") + "y1 = Relu (y0)\n y2 = Neg (y0)\n y = Add (y1, y2)\n"
    rewritten(NAME, attention(end=end), 2, close=True)


def test_a_gemm_takes_the_bias():
    after = rewritten(NAME, formed(second()), 2, close=True)
    assert ops(after).count("Gemm") == 1


def test_keys_and_values_of_other_tokens():
    rewritten(NAME, formed(cross()), 2, close=True)


def test_no_bias_no_match():
    model = formed(attention())
    once = rewritten(NAME, model, 2, close=True)
    assert ops(rewritten(NAME, once, 0)) == ops(once)


def test_refused_the_bias_of_keys_that_are_divided_by_their_length():
    """The length of K + b is not the length of K."""
    model = formed(cosine())
    after = rewritten(NAME, model, 1, close=True)
    assert adds(after) == adds(model) - 1


def test_a_bias_of_zeros_goes_whatever_is_divided_by():
    """Swin V2 stores zeros for its keys."""
    model = cosine()
    for tensor in model.graph.initializer:
        if tensor.name == "bk":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(8, np.float32), "bk"))
    rewritten(NAME, formed(model), 2, close=True)


def test_refused_where_no_linear_layer_follows():
    end = NO_BIAS.replace("y = MatMul (r9, wo)", "r8 = Relu (r9)\n y = MatMul (r8, wo)")
    after = rewritten(NAME, attention(end=end), 1, close=True)
    assert "bv" in {t.name for t in after.graph.initializer} and "bk" not in {t.name for t in after.graph.initializer}


def test_refused_where_two_layers_follow():
    end = NO_BIAS.replace("y =", "y0 =") + "y1 = MatMul (r9, w2)\n y = Add (y0, y1)\n"
    rewritten(NAME, attention(end=end, w2=f32(8, 6, seed=5)), 1, close=True)


OTHER_READERS = {
    "the keys' layer is an output": ("ka", 1),
    "the values' layer is an output": ("va", 1),
    "the keys' heads are an output": ("k", 1),
    "the values' heads are an output": ("v", 1),
    "the result is an output": ("r9", 1),
}


@pytest.mark.parametrize("case", OTHER_READERS)
def test_refused_a_layer_that_something_else_reads(case):
    """Keys and values that a decoder keeps for the next step."""
    name, matches = OTHER_READERS[case]
    model = with_outputs(attention(), name)
    rewritten(NAME, model, matches, close=True)


def test_refused_heads_of_keys_that_another_operator_reads():
    mix = "p = Softmax <axis = -1> (b2)\n o = MatMul (p, v)\n extra = ReduceMean <keepdims = 1> (k, last)\n"
    end = NO_BIAS.replace("(o)", "(o2)")
    model = attention(mix=mix + "o2 = Add (o, extra)\n", end=end, last=i64(3))
    # the values' bias stays, too: an Add lies between their heads and the next layer
    rewritten(NAME, model, 0, close=True)


def test_refused_queries_that_are_the_keys():
    """One layer for both: the bias of the queries is no bias of the keys."""
    model = attention()
    for node in model.graph.node:
        node.input[:] = ["q" if name == "k" else name for name in node.input]
    used = {name for node in model.graph.node for name in node.input}
    for node in [n for n in model.graph.node if not set(n.output) & used and n.output[0] != "y"]:
        model.graph.node.remove(node)
    rewritten(NAME, model, 1, close=True)


def test_refused_keys_that_share_their_layer_with_values():
    """One product for K and V: each bias is half of its."""
    model = attention("split of the columns")
    rewritten(NAME, model, 0)


def test_the_product_of_the_next_layer_is_an_output():
    model = with_outputs(attention(), "y0")
    rewritten(NAME, model, 2, close=True)


def test_a_carried_bias_is_the_values_bias_times_the_next_layers_weight():
    model = attention()
    after = rewritten(NAME, model, 2, close=True)
    due = initializer(model, "bo") + initializer(model, "bv") @ initializer(model, "wo")
    made = next(n for n in reversed(after.graph.node) if n.op_type == "Add")
    np.testing.assert_allclose(initializer(after, made.input[1]), due, rtol=1e-5)
