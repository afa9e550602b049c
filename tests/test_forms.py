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


def without_biases(model):
    """The same graph whose projections add nothing: forms treat a layer without a bias apart."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in [n for n in copy.graph.node if n.op_type == "Add" and n.input[1] in ("bq", "bk", "bv")]:
        for reader in copy.graph.node:
            reader.input[:] = [node.input[0] if name == node.output[0] else name for name in reader.input]
        copy.graph.node.remove(node)
    return copy


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_function(form, name, bare):
    model = without_biases(MODELS[name]) if bare else MODELS[name]
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
