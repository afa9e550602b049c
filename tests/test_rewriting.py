import sys
from types import ModuleType

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graphs import assert_same, f32, graph, i64, ops, tiny_recipe
from onnx import helper

from exporter import rewriting
from exporter.errors import CheckFailed
from exporter.types import CANONICAL, RewriteStep


def model():
    """x -> Identity -> Identity -> Mul by a constant -> y; and z = -x."""
    return graph(
        """(float[batch, 4] x) => (float[batch, 4] y, float[batch, 4] z) {
            a = Identity (x)
            b = Identity (a)
            y = Mul (b, c)
            z = Neg (x)
        }""",
        c=f32(4),
    )


def steps(*pairs):
    return tiny_recipe(rewrites=tuple(RewriteStep(*pair) for pair in pairs))


@pytest.fixture
def fake(monkeypatch):
    """Installs a function as the rewrite ``fake``."""

    def install(apply, name="fake"):
        module = ModuleType(f"exporter.rewrites.{name}")
        module.apply = apply
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return steps((name,))

    return install


def node(graph, op):
    return next(n for n in graph.nodes if n.op == op)


def test_the_rewrites_are_applied_in_order_and_reported():
    before = model()
    recipe = steps(("static_shapes", 0), ("remove_identities", 2), ("share_constants",))
    said = []
    after, reports = rewriting.rewrite(before, recipe, progress=said.append)
    assert said == ["static_shapes", "remove_identities", "share_constants"]
    assert sorted(ops(after)) == ["Mul", "Neg"]
    assert_same(before, after)
    fields = [(r.name, r.matches, r.nodes_before, r.nodes_after, r.max_abs_error, r.refused) for r in reports]
    assert fields == [
        ("static_shapes", 0, 4, 4, None, {}),
        ("remove_identities", 2, 4, 2, 0.0, {}),
        ("share_constants", 0, 2, 2, None, {}),
    ]
    assert all(0 <= r.seconds < 10 for r in reports)
    assert set(reports[1].as_dict()) == {
        "name",
        "matches",
        "nodes_before",
        "nodes_after",
        "max_abs_error",
        "seconds",
        "check_seconds",
        "refused",
    }


def test_the_model_that_was_given_is_not_changed():
    before = model()
    bytes_before = before.SerializeToString()
    rewriting.rewrite(before, steps(("remove_identities",), ("share_constants",), ("fold_constants",)))
    assert before.SerializeToString() == bytes_before


def test_what_the_model_says_of_itself_stays():
    before = model()
    before.producer_name, before.producer_version = "pytorch", "2.14"
    after, _ = rewriting.rewrite(before, steps(("remove_identities",)))
    assert (after.producer_name, after.producer_version) == ("pytorch", "2.14")
    assert (after.ir_version, after.graph.name) == (before.ir_version, before.graph.name)
    assert after.opset_import == before.opset_import
    assert after.graph.input == before.graph.input and after.graph.output == before.graph.output
    assert sorted(n.name for n in after.graph.node) == ["blocks.0/Mul_2", "blocks.0/Neg_3"]


@pytest.mark.parametrize("due", [1, 3, 0])
def test_another_count_than_the_recipes_names_the_rewrite_and_both_counts(due):
    with pytest.raises(CheckFailed) as caught:
        rewriting.rewrite(model(), steps(("remove_identities", due)))
    error = caught.value
    assert "remove_identities" in error.what and error.exit_code == 1
    assert (error.model, error.stage) == ("tiny", "rewrite")
    assert error.found == "2 matches" and error.expected.startswith(f"{due} ") and "recipes/vit.py" in error.expected


@pytest.mark.parametrize("due, raises", [(2, False), (1, False), (99, False), (None, False), (0, True)])
def test_at_another_image_size_a_due_count_only_must_not_be_zero(due, raises):
    recipe = steps(("remove_identities", due))
    if raises:
        with pytest.raises(CheckFailed, match="remove_identities"):
            rewriting.rewrite(model(), recipe, native_image=False)
    else:
        assert rewriting.rewrite(model(), recipe, native_image=False)[1][0].matches == 2


@pytest.mark.parametrize("native", [True, False])
def test_a_due_rewrite_that_finds_nothing_fails_at_any_image_size(native):
    with pytest.raises(CheckFailed) as caught:
        rewriting.rewrite(model(), steps(("static_shapes", 5)), native_image=native)
    assert caught.value.found == "0 matches"


def test_without_leaves_rewrites_out():
    recipe = steps(("remove_identities", 77), ("share_constants",))
    after, reports = rewriting.rewrite(model(), recipe, without=("remove_identities",))
    assert [r.name for r in reports] == ["share_constants"] and len(after.graph.node) == 4


def test_no_rewrites_leave_the_model():
    after, reports = rewriting.rewrite(model(), steps())
    assert reports == [] and after == model()


def wrong_constant(graph, shapes):
    mul = node(graph, "Mul")
    mul.inputs[1] = gs.Constant("other", mul.inputs[1].values * np.float32(1.001))
    return 1


def nan(graph, shapes):
    mul = node(graph, "Mul")
    mul.inputs[1] = gs.Constant("other", np.full(4, np.nan, np.float32))
    return 1


def wrong_at_other_batches(graph, shapes):
    """Every row becomes the first one: right for one image."""
    neg = node(graph, "Neg")
    first = gs.Variable("first", np.float32)
    graph.nodes.append(gs.Node("Gather", "first", inputs=[*neg.inputs, gs.Constant("zero", i64(0))], outputs=[first]))
    rows = gs.Variable("rows", np.float32)
    same = gs.Variable("same", np.int64)
    graph.nodes.append(gs.Node("Shape", "shape", inputs=list(neg.inputs), outputs=[same]))
    graph.nodes.append(gs.Node("Expand", "rows", inputs=[first, same], outputs=[rows]))
    neg.inputs[0] = rows
    return 1


def wrong_at_one_image(graph, shapes):
    """Adds max(2 - batch, 0): wrong for one image alone."""
    return wrong_by(graph, lambda size: (gs.Constant("two", i64(2)), size))


def wrong_beyond_three(graph, shapes):
    """Adds max(batch - 3, 0)."""
    return wrong_by(graph, lambda size: (size, gs.Constant("three", i64(3))))


def wrong_by(graph, difference):
    neg = node(graph, "Neg")
    tensors = [gs.Variable(name, kind) for name, kind in (("n", np.int64), ("less", np.int64), ("few", np.int64))]
    size, less, few = tensors
    extra, moved = gs.Variable("extra", np.float32), gs.Variable("moved", np.float32)
    graph.nodes += [
        gs.Node("Shape", "n", {"end": 1}, list(neg.inputs), [size]),
        gs.Node("Sub", "less", inputs=list(difference(size)), outputs=[less]),
        gs.Node("Max", "few", inputs=[less, gs.Constant("zero", i64(0))], outputs=[few]),
        gs.Node("Cast", "extra", {"to": 1}, [few], [extra]),
        gs.Node("Add", "moved", inputs=[neg.inputs[0], extra], outputs=[moved]),
    ]
    neg.inputs[0] = moved
    return 1


@pytest.mark.parametrize(
    "apply, output, batch",
    [(wrong_constant, "y", 1), (nan, "y", 1), (wrong_at_other_batches, "z", 3), (wrong_at_one_image, "z", 1)],
)
def test_a_rewrite_that_changes_the_result_is_caught(apply, output, batch, fake):
    with pytest.raises(CheckFailed) as caught:
        rewriting.rewrite(model(), fake(apply))
    error = caught.value
    assert "fake" in error.what and "--without fake" in error.next
    assert error.found.startswith(f"{output} moved by") and error.found.endswith(f"at batch {batch}")


def test_a_rewrite_that_is_wrong_beyond_an_odd_batch_is_caught_where_the_largest_is_asked_for(fake):
    rewriting.rewrite(model(), fake(wrong_beyond_three))
    with pytest.raises(CheckFailed) as caught:
        rewriting.rewrite(model(), fake(wrong_beyond_three), batches=(1, 3, 5))
    assert caught.value.found.endswith("at batch 5")


def test_with_no_batch_nothing_is_run_and_no_error_is_claimed(fake, monkeypatch):
    monkeypatch.setattr(rewriting, "_outputs", None)
    answers = []
    after, (report,) = rewriting.rewrite(model(), steps(("remove_identities", 2)), batches=(), answers=answers)
    assert report.max_abs_error is None and answers == [] and sorted(ops(after)) == ["Mul", "Neg"]
    with pytest.raises(CheckFailed):
        rewriting.rewrite(model(), steps(("remove_identities", 3)), batches=())


def test_an_image_keeps_no_place_from_batch_to_batch():
    one, three, five = (feed["x"] for feed in rewriting._feeds(model(), (1, 3, 5)))
    assert (len(one), len(three), len(five)) == (1, 3, 5)
    assert all(row in five for row in (*one, *three))
    assert not np.array_equal(three, five[:3]) and not np.array_equal(one, five[:1])


def test_a_change_inside_the_tolerance_is_reported(fake):
    def almost(graph, shapes):
        mul = node(graph, "Mul")
        mul.inputs[1] = gs.Constant("other", mul.inputs[1].values * np.float32(1 + 2**-20))
        return 1

    _, (report,) = rewriting.rewrite(model(), fake(almost))
    assert 0 < report.max_abs_error < 1e-5  # 2**-20 of values below 8


def fixed_to_one_image(graph, shapes):
    """Right for one image, and ONNX Runtime stops at three."""
    neg = node(graph, "Neg")
    row = gs.Variable("row", np.float32)
    graph.nodes.append(gs.Node("Reshape", "row", inputs=[*neg.inputs, gs.Constant("one", i64(1, 4))], outputs=[row]))
    neg.inputs[0] = row
    return 1


def flattened(graph, shapes):
    """A result of another shape, of which the declared output says nothing."""
    neg = node(graph, "Neg")
    flat = gs.Variable("flat", np.float32)
    graph.nodes.append(gs.Node("Reshape", "flat", inputs=[*neg.inputs, gs.Constant("all", i64(-1))], outputs=[flat]))
    neg.inputs[0] = flat
    graph.outputs[1].shape = None
    return 1


def unknown_operator(graph, shapes):
    node(graph, "Neg").op = "NoSuchOperator"
    return 1


def unconnected(graph, shapes):
    node(graph, "Neg").inputs[0] = gs.Variable("nowhere", np.float32)
    return 1


def mistyped(graph, shapes):
    mul = node(graph, "Mul")
    mul.inputs[1] = gs.Constant("half", mul.inputs[1].values.astype(np.float16))
    return 1


def cyclic(graph, shapes):
    mul = node(graph, "Mul")
    node(graph, "Identity").inputs[0] = mul.outputs[0]
    return 1


def without_a_kernel(graph, shapes):
    """Legal for the checker, and nothing that ONNX Runtime has a kernel for."""
    neg = node(graph, "Neg")
    neg.op, neg.domain = "Mystery", "com.example"
    graph.import_domains = [*(graph.import_domains or []), helper.make_opsetid("com.example", 1)]
    return 1


@pytest.mark.parametrize(
    "apply",
    [fixed_to_one_image, flattened, unknown_operator, unconnected, mistyped, cyclic, without_a_kernel],
)
def test_a_rewrite_that_leaves_an_invalid_graph_is_caught(apply, fake):
    with pytest.raises(CheckFailed) as caught:
        rewriting.rewrite(model(), fake(apply))
    assert "fake" in caught.value.what and caught.value.stage == "rewrite"
    assert "Traceback" not in str(caught.value) and len(str(caught.value).splitlines()) <= 4


def drops(graph, shapes):
    del graph.outputs[1]
    return 1


def renames(graph, shapes):
    graph.outputs[1].name = "other"
    return 1


def retypes(graph, shapes):
    """The output is declared as double and is double."""
    neg, z = node(graph, "Neg"), graph.outputs[1]
    inner = gs.Variable("inner", np.float32)
    neg.outputs[0] = inner
    graph.nodes.append(gs.Node("Cast", "cast", {"to": 11}, [inner], [z]))
    z.dtype = np.float64
    return 1


def adds(graph, shapes):
    graph.outputs.append(node(graph, "Identity").outputs[0])
    return 1


def renames_the_input(graph, shapes):
    graph.inputs[0].name = "other"
    return 1


@pytest.mark.parametrize("apply", [drops, renames, retypes, adds, renames_the_input])
def test_a_rewrite_that_changes_inputs_or_outputs_is_caught(apply, fake):
    with pytest.raises(CheckFailed, match="fake"):
        rewriting.rewrite(model(), fake(apply))


def test_the_rewrite_before_a_faulty_one_is_not_blamed(fake):
    fake(wrong_constant)
    with pytest.raises(CheckFailed, match="fake"):
        rewriting.rewrite(model(), steps(("remove_identities", 2), ("fake",), ("share_constants",)))


def test_a_change_without_a_match_does_not_reach_the_next_rewrite(fake):
    """What reports no match was not looked at, so it must not be in the graph."""

    def sly(graph, shapes):
        wrong_constant(graph, shapes)
        return 0

    fake(sly)
    after, _ = rewriting.rewrite(model(), steps(("fake",), ("remove_identities",)))
    assert_same(model(), after)


def test_a_fixed_batch_is_compared_at_that_batch(fake):
    fixed = model()
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 5
    after, _ = rewriting.rewrite(fixed, steps(("remove_identities", 2)))
    assert_same(fixed, after)
    with pytest.raises(CheckFailed, match="at batch 5"):
        rewriting.rewrite(fixed, fake(wrong_at_other_batches))


def test_a_rewrite_asks_for_the_shapes_of_the_graph_before_it(fake):
    seen = {}

    def asks(graph, shapes):
        seen.update({batch: shapes(batch).shapes["y"] for batch in (1, 7)})
        assert shapes(7) is shapes(7)
        return 0

    rewriting.rewrite(model(), fake(asks))
    assert seen == {1: (1, 4), 7: (7, 4)}


def test_the_canonical_rewrites_of_an_exported_vit(tiny_vit):
    _, raw = tiny_vit
    after, reports = rewriting.rewrite(raw, tiny_recipe())
    assert "Identity" not in ops(after) and len(after.graph.node) < len(raw.graph.node)
    assert [r.name for r in reports] == list(CANONICAL)
    found = {r.name: r.matches for r in reports}
    assert (found["static_shapes"], found["patch_embedding"], found["attention_form"]) == (17, 1, 2)
    assert reports[0].nodes_after < reports[0].nodes_before
