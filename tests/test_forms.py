"""All forms of one attention compute the same, with a free batch and a fixed one."""

import numpy as np
import onnx
import pytest
from attentions import attention
from graphs import apply, assert_close, f32, feed, initializer, ops, run
from test_attention import cosine, cross, second

from exporter import onnxio
from exporter.forms import FORMS

SHARED = {"windows_packed", "windows_operator", "positions_packed"}
"""Forms for queries, keys and values that are projections of the same tokens."""


def opset17():
    return cosine(opset=17, length="ReduceL2 <keepdims = 1, axes = [-1]> ({0})")


MODELS = {
    "bias and mask": attention(),
    "no bias": attention("gather", "half on each", "none"),
    "one bias for all windows": attention("columns head by head", "on the keys", "one number a head, query and key"),
    "opset 17": attention("slice and squeeze", "on the queries", "mask and bias", opset=17),
    "flat": attention("three layers of a flat matrix", "a number for each head", "both in one"),
    "cosine": cosine(),
    "cosine, opset 17": opset17(),
    "batch second": second(),
    "cross attention": cross(),
    "values of another width": cross(features=6),
}


def without_biases(model, names=("bq", "bk", "bv")):
    """The same graph whose projections add nothing: forms treat a layer without a bias apart."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in [n for n in copy.graph.node if n.op_type == "Add" and n.input[1] in names]:
        for reader in copy.graph.node:
            reader.input[:] = [node.input[0] if name == node.output[0] else name for name in reader.input]
        copy.graph.node.remove(node)
    return copy


def lengths(model):
    """The lengths of the columns of each weight that is multiplied with x, planes one after the other."""
    weights = [initializer(model, n.input[1]) for n in model.graph.node if n.op_type == "MatMul" and len(n.input) == 2
               and any(t.name == n.input[1] for t in model.graph.initializer)]  # fmt: skip
    return [np.linalg.norm(plane, axis=0) for w in weights for plane in w.reshape(-1, *w.shape[-2:])]


@pytest.mark.parametrize("name", ["bias and mask", "cross attention", "cosine"])
@pytest.mark.parametrize("form", ["windows", "positions_planes"])
def test_balanced_columns_of_queries_are_as_long_as_the_keys(form, name):
    (matches, plain), (_, after) = (
        apply("attention_form", MODELS[name], form=form, **more) for more in ({}, {"balanced": True})
    )
    assert matches == 1
    assert_close(MODELS[name], after)
    q, k, v = lengths(after)[:3]
    if name == "cosine":
        assert all(np.array_equal(a, b) for a, b in zip(lengths(plain)[:3], (q, k, v), strict=True))
        return
    np.testing.assert_allclose(q, k, rtol=1e-5)
    assert np.array_equal(v, lengths(plain)[2]) and not np.allclose(*lengths(plain)[:2])  # nor were they before


def test_a_dead_column_is_not_balanced():
    model = onnx.ModelProto()
    model.CopyFrom(MODELS["bias and mask"])
    (weight,) = [t for t in model.graph.initializer if t.name == "wk"]
    values = onnx.numpy_helper.to_array(weight).copy()
    values[:, 3] = 0
    weight.CopyFrom(onnx.numpy_helper.from_array(values, "wk"))
    matches, after = apply("attention_form", model, balanced=True)
    assert matches == 1 and not np.allclose(*lengths(after)[:2])
    assert_close(model, after)


@pytest.mark.parametrize("form", ["positions_planes", "positions_apart"])
def test_one_with_a_bias_and_one_without_of_the_same_rows_are_one_product(form):
    """Keys and values here, queries and keys of DETR's self-attention."""
    model = without_biases(MODELS["cross attention"], ("bv",))
    matches, after = apply("attention_form", model, form=form)
    pair, q, *_ = lengths(after)
    assert matches == 1 and len(pair) == 2 * len(q)
    assert_close(model, after)


@pytest.mark.parametrize("bare", [(), ("bq", "bk", "bv"), ("bv",), ("bk", "bv")])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_function(form, name, bare):
    model = without_biases(MODELS[name], bare)
    why = {}
    matches, after = apply("attention_form", model, form=form, refused=why)
    if form in SHARED and ("cross" in name or "width" in name):
        assert matches == 0 and "not projections of the same tokens" in next(iter(why.values()))
        return
    if form == "windows_operator" and "opset 17" in name:
        assert (matches, [*why.values()]) == (0, ["its operator is of opset 23, the graph of 17"])
        assert onnxio.opset(after) == 17
        return
    assert (matches, why) == (1, {})
    assert_close(model, after)
    fixed = onnx.ModelProto()
    fixed.CopyFrom(after)
    onnxio.fix_batch(fixed, 4)
    onnxio.check(fixed)
    feeds = feed(model, 4)
    due = run(model, feeds)["y"]
    np.testing.assert_allclose(run(fixed, feeds)["y"], due, rtol=0, atol=1e-5 * np.abs(due).max())


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_made_of_the_canonical_one(form):
    """What a request does: the canonical form first, then the chosen one, tokens in its order."""
    model = attention("gather")
    canonical = apply("attention_form", model)[1]
    _, bare = apply("fold_attention_biases", canonical)
    matches, formed = apply("attention_form", bare, form=form)
    assert matches == 1
    assert_close(model, formed)
    after = apply("cancel_permutations", formed)[1]
    assert_close(model, after)


@pytest.mark.parametrize("form, products", [("windows", 6), ("windows_packed", 4), ("positions_packed", 4)])
def test_the_products_of_a_form(form, products):
    assert ops(apply("attention_form", attention(), form=form)[1]).count("MatMul") == products


def test_keys_and_values_without_a_bias_are_planes_of_one_product():
    bare = apply("fold_attention_biases", apply("attention_form", attention())[1])[1]
    after = apply("attention_form", bare, form="positions_planes")[1]
    assert ops(after).count("MatMul") == 5 and ops(after).count("Split") == 1
    (planes,) = (t.dims for t in after.graph.initializer if len(t.dims) == 3 and t.dims[0] == 2)
    assert list(planes) == [2, 6, 8]


def test_products_apart_are_three_without_a_bias_and_else_one():
    canonical = apply("attention_form", without_biases(attention()))[1]
    assert ops(apply("attention_form", canonical, form="positions_apart")[1]).count("MatMul") == 6
    biased = apply("fold_attention_biases", apply("attention_form", attention())[1])[1]  # Q keeps its
    one, packed = (apply("attention_form", biased, form=form)[1] for form in ("positions_apart", "positions_packed"))
    assert ops(one) == ops(packed) and ops(one).count("MatMul") == 4


def test_names_say_which_block_a_node_belongs_to():
    for form in FORMS:
        after = apply("attention_form", attention(), form=form)[1]
        assert {n.name.rpartition("/")[0] for n in after.graph.node} == {"blocks.0"}


def test_keys_of_one_product_and_queries_of_another_are_not_mixed_up():
    """Every projection has columns of its own: other weights give other results."""
    model = attention()
    for name in ("wq", "wk", "wv", "bq", "bk", "bv"):
        other = attention(**{name: f32(*initializer(model, name).shape, seed=99)})
        for form in FORMS:
            assert_close(other, apply("attention_form", other, form=form)[1], (2,))
