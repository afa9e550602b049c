import numpy as np
import pytest
from graphs import apply, f32, graph, i64, ops, rewritten, with_outputs

NAME = "early_selection"
NORM = "n = LayerNormalization <axis = -1> (x, w, b)\n"


def selection(lines, out="batch, 6", opset=22, **weights):
    used = {"w": f32(6), "b": f32(6, seed=1), "zero": np.int64(0)} | weights
    text = f"{{ {lines} }}"
    used = {k: v for k, v in used.items() if f" {k}" in text or f"({k}" in text}
    return graph(f"(float[batch, 5, 6] x) => (float[{out}] y) {text}", opset, **used)


@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize(
    "norm",
    [NORM, NORM.replace("axis = -1", "axis = 2"), NORM.replace("axis = -1", "epsilon = 0.1"), NORM.replace(", b", "")],
)
def test_the_class_token_is_taken_before_it_is_normalised(norm, opset):
    model = selection(norm + "y = Gather <axis = 1> (n, zero)", opset=opset)
    assert ops(rewritten(NAME, model, 1)) == ["Slice", "LayerNormalization", "Squeeze"]


@pytest.mark.parametrize("index", [i64(0), i64(4, 1), i64(-1), np.int64([[3], [1]])])
def test_several_tokens(index):
    shape = f"batch, {', '.join(map(str, index.shape))}, 6"
    model = selection(NORM + "y = Gather <axis = 1> (n, some)", shape, some=index)
    first = "Gather" if index.size > 1 else "Slice"  # rows 1 and 4, 1 and 3, or one alone
    last = ["Gather"] if index.size > 1 else []
    assert ops(rewritten(NAME, model, 1)) == [first, "LayerNormalization", *last]


SLICES = {
    "the first ones": {"starts": i64(0), "ends": i64(2), "axes": i64(1)},
    "all but the first": {"starts": i64(1), "ends": i64(2**63 - 1), "axes": i64(-2)},
    "every other": {"starts": i64(0), "ends": i64(5), "axes": i64(1), "steps": i64(2)},
}


@pytest.mark.parametrize("case", SLICES)
def test_a_slice_of_the_tokens(case):
    words = SLICES[case]
    model = selection(NORM + f"y = Slice (n, {', '.join(words)})", "batch, k, 6", **words)
    first = "Gather" if "steps" in words else "Slice"
    assert ops(rewritten(NAME, model, 1)) == [first, "LayerNormalization"]


def test_a_reader_that_nothing_reads_is_no_obstacle():
    model = selection(NORM + "d = Exp (n)\n y = Gather <axis = 1> (n, zero)")
    assert ops(rewritten(NAME, model, 1)) == ["Slice", "LayerNormalization", "Squeeze"]


def test_one_operator_after_the_other():
    lines = NORM + "m = LayerNormalization (n, w, b)\n y = Gather <axis = 1> (m, zero)"
    assert ops(rewritten(NAME, selection(lines), 2)) == ["Slice", "LayerNormalization", "LayerNormalization", "Squeeze"]


def test_two_selections_one_after_the_other():
    lines = NORM + "g = Gather <axis = 1> (n, some)\n y = Gather <axis = 1> (g, zero)"
    after = rewritten(NAME, selection(lines, some=i64(3, 2)), 1)
    assert ops(after)[-1] == "Gather" or ops(after)[-1] == "LayerNormalization"


REFUSED = {
    "columns": ("y = Gather <axis = 2> (n, zero)", "batch, 5"),
    "columns, counted from the end": ("y = Gather <axis = -1> (n, zero)", "batch, 5"),
    "images": ("y = Gather <axis = 0> (n, zero)", "5, 6"),
    "all tokens in another order": ("y = Gather <axis = 1> (n, all)", "batch, 5, 6"),
    "tokens more than once": ("y = Gather <axis = 1> (n, more)", "batch, 7, 6"),
    "a normalisation that something else reads": ("g = Gather <axis = 1> (n, one)\n y = Add (n, g)", "batch, 5, 6"),
    "an index of the input": (
        "i = ArgMax <axis = 1> (x)\n f = ReduceMax <keepdims = 0> (i)\ny = Gather <axis = 1> (n, f)",
        "batch, 6",
    ),
    "columns sliced": ("y = Slice (n, one, three, two)", "batch, 5, 2"),
    "tokens and columns sliced": ("y = Slice (n, both, ends, axes)", "batch, 2, 2"),
    "all tokens sliced": ("y = Slice (n, nothing, far, one)", "batch, 5, 6"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    lines, out = REFUSED[case]
    model = selection(
        NORM + lines,
        out,
        all=i64(4, 3, 2, 1, 0),
        more=i64(0, 1, 2, 3, 4, 0, 0),
        one=i64(1),
        two=i64(2),
        three=i64(3),
        both=i64(0, 1),
        ends=i64(2, 3),
        axes=i64(1, 2),
        nothing=i64(0),
        far=i64(99),
    )
    assert sorted(ops(rewritten(NAME, model, 0))) == sorted(ops(model))


def test_refused_a_normalisation_that_is_an_output():
    model = with_outputs(selection(NORM + "y = Gather <axis = 1> (n, zero)"), "n")
    assert sorted(ops(rewritten(NAME, model, 0))) == sorted(ops(model))


def test_refused_a_normalisation_over_the_tokens():
    norm = "n = LayerNormalization <axis = 1> (x, v, c)\n"
    model = selection(norm + "y = Gather <axis = 1> (n, zero)", v=f32(5, 6), c=f32(5, 6))
    assert sorted(ops(rewritten(NAME, model, 0))) == sorted(ops(model))


def test_refused_an_operator_that_mixes_tokens():
    model = selection("n = Softmax <axis = 1> (x)\n y = Gather <axis = 1> (n, zero)")
    assert ops(rewritten(NAME, model, 0)) == ["Softmax", "Gather"]


def test_the_selected_one_is_read_on():
    model = selection(NORM + "g = Gather <axis = 1> (n, zero)\n a = Exp (g)\n y = Sub (a, g)")
    assert ops(rewritten(NAME, model, 1)) == ["Slice", "LayerNormalization", "Squeeze", "Exp", "Sub"]


MLP = """a = LayerNormalization <axis = -1> (s, w, b)
h = MatMul (a, up)
i = Add (h, low)
j = Gelu (i)
k = MatMul (j, down)
l = Add (k, b)
r = Add (s, l)
n = LayerNormalization <axis = -1> (r, w, b)
"""
TALL = {"up": f32(6, 24, seed=2), "low": f32(24, seed=3), "down": f32(24, 6, seed=4)}


def test_the_last_mlp_runs_on_the_class_token_alone():
    lines = "c = Softmax <axis = 1> (x)\n s = Add (x, c)\n" + MLP + "y = Gather <axis = 1> (n, zero)"
    model = selection(lines, **TALL)
    after = rewritten(NAME, model, 8, close=True)
    assert ops(after)[:3] == ["Softmax", "Add", "Slice"] and ops(after)[-1] == "Squeeze"
    assert ops(after).count("Slice") == 1


def test_it_does_not_rise_into_two_branches():
    lines = "c = Softmax <axis = 1> (x)\n s = Add (x, c)\n n = LayerNormalization <axis = -1> (s, w, b)\n" \
        "y = Gather <axis = 1> (n, zero)"  # fmt: skip
    assert ops(rewritten(NAME, selection(lines), 1)) == ["Softmax", "Add", "Slice", "LayerNormalization", "Squeeze"]


def test_it_stops_where_something_else_reads_a_token():
    lines = "s = Exp (x)\n" + MLP + "y = Gather <axis = 1> (n, zero)"
    model = with_outputs(selection(lines, **TALL), "k")
    after = rewritten(NAME, model, 1, close=True)  # past the last norm, not into the MLP
    made = {o: n.op_type for n in after.graph.node for o in n.output}
    (slices,) = [n for n in after.graph.node if n.op_type == "Slice"]
    assert slices.input[0] == "r" and made["r"] == "Add"


def test_class_and_distillation_token_rise_together():
    lines = NORM + "g = Gather <axis = 1> (n, zero)\n d = Gather <axis = 1> (n, one)\n y = Sub (g, d)"
    after = rewritten(NAME, selection(lines, one=np.int64(1)), 1)
    assert ops(after) == ["Slice", "LayerNormalization", "Gather", "Gather", "Sub"]


MAXIMUM = "c = ReduceMax <keepdims = 1, axes = [1]> (x)\n "
"""One row an image, for all of its tokens."""


@pytest.mark.parametrize("matches, lines", [
    (0, "n = Exp (x)\n m = Add (n, x)\n g = Gather <axis = 1> (m, zero)\n z = ReduceMax <keepdims = 0> (n)\n "
        "y = Mul (g, z)"),
    (1, MAXIMUM + "s = Add (c, x)\n m = Exp (s)\n y = Gather <axis = 1> (m, zero)"),
    (2, MAXIMUM + "s = Add (x, c)\n m = Exp (s)\n n = Add (m, s)\n y = Gather <axis = 1> (n, zero)"),
])  # fmt: skip
def test_what_others_read_and_what_is_broadcast_is_passed_by_no_selection(matches, lines):
    rewritten(NAME, selection(lines, opset=17), matches, close=True)


def test_another_rank_and_another_axis():
    text = "{ n = Exp (x)\n y = Slice (n, one, far, two) }"
    model = graph(f"(float[batch, 3, 5, 6] x) => (float[batch, 3, 4, 6] y) {text}", one=i64(1), far=i64(9), two=i64(2))
    assert ops(rewritten(NAME, model, 1)) == ["Slice", "Exp"]


@pytest.mark.parametrize("lines", [
    "y = Slice (n, none, two, one)\n z = Gather <axis = 1> (n, zero)",
    "y = Gather <axis = 1> (n, some)\n z = Gather <axis = 1> (n, some)",
])  # fmt: skip
def test_a_selection_that_is_an_output_leaves_the_others_theirs(lines):
    used = {"none": i64(0), "two": i64(2), "one": i64(1), "zero": np.int64(0), "some": i64(1, 2)}
    out = "float[batch, 2, 6] y, float[batch, " + ("6" if "zero" in lines else "2, 6") + "] z"
    model = graph(
        f"(float[batch, 5, 6] x) => ({out}) {{ {NORM} {lines} }}",
        w=f32(6), b=f32(6), **{k: v for k, v in used.items() if f", {k}" in lines},
    )  # fmt: skip
    rewritten(NAME, model, 1)


@pytest.mark.parametrize("lines, out", [
    ("p = Reshape (x, flat)\n n = Exp (p)\n y = Slice (n, one, far, one)", "1, k, 6"),
    ("p = Reshape (x, flat)\n n = Exp (p)\n g = Gather <axis = 1> (n, last)\n y = Neg (g)", "1, 6"),
    (NORM + "y = Gather <axis = 1> (n, empty)", "batch, 0, 6"),
    (NORM + "y = Slice (n, one, one, one)", "batch, 0, 6"),
])  # fmt: skip
def test_refused_an_axis_that_grows_with_the_batch_and_a_selection_of_nothing(lines, out):
    used = {
        "flat": i64(1, -1, 6),
        "one": i64(1),
        "far": i64(2**62),
        "last": np.int64(-1),
        "empty": np.zeros(0, np.int64),
    }
    model = selection(lines, out, **{k: v for k, v in used.items() if f", {k}" in lines})
    assert sorted(ops(rewritten(NAME, model, 0))) == sorted(ops(model))


@pytest.mark.parametrize("shape", [(5, 6), (5, 1)])
def test_refused_a_normalisation_with_a_scale_a_token(shape):
    model = selection(
        "n = LayerNormalization <axis = -1> (x, v, c)\n y = Gather <axis = 1> (n, zero)", v=f32(*shape), c=f32(6)
    )
    assert ops(apply(NAME, model)[1]) == ["LayerNormalization", "Gather"]


def test_selections_along_two_axes_stay():
    lines = NORM + "g = Gather <axis = 1> (n, zero)\n d = Gather <axis = 2> (n, zero)\n" \
        "e = ReduceSum <keepdims = 0> (d)\n y = Add (g, e)"  # fmt: skip
    model = selection(lines)
    assert sorted(ops(rewritten(NAME, model, 0))) == sorted(ops(model))


def test_nothing_to_find():
    assert ops(rewritten(NAME, selection("y = Gather <axis = 1> (x, zero)"), 0)) == ["Gather"]
