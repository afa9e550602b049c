import numpy as np
import pytest
from graphs import apply, assert_same, f32, graph, i64, initializer, ops, rewritten

NAME = "remove_identities"
FAR = 2**63 - 1


def between(line, kind="float", opset=22, out="k, l", **constants):
    """x -> Neg -> n -> the node in question -> m -> Abs -> y."""
    text = f"({kind}[batch, 4] x) => ({kind}[{out}] y) {{ n = Neg (x)\n {line}\n y = Abs (m) }}"
    return graph(text, opset=opset, **constants)


SAME = {
    "Identity": ("m = Identity (n)", {}),
    "Cast": ("m = Cast <to = 1> (n)", {}),
    "CastLike": ("m = CastLike (n, like)", {"like": f32(1)}),
    "CastLike of itself": ("m = CastLike (n, n)", {}),
    "Dropout": ("m = Dropout (n)", {}),
    "Dropout in inference": ("m = Dropout (n, ratio, no)", {"ratio": np.float32(0.5), "no": np.array(False)}),
    "Dropout with an unused mask": ("m, unused = Dropout (n)", {}),
    "Pad": ("m = Pad (n, none)", {"none": i64(0, 0, 0, 0)}),
    "Pad reflect": ('m = Pad <mode = "reflect"> (n, none)', {"none": i64(0, 0, 0, 0)}),
    "Pad value": ("m = Pad (n, none, value)", {"none": i64(0, 0, 0, 0), "value": np.float32(7)}),
    "Slice": ("m = Slice (n, zero, far, one)", {"zero": i64(0), "far": i64(FAR), "one": i64(1)}),
    "Slice, all axes, no axes input": ("m = Slice (n, zero, far)", {"zero": i64(0, 0), "far": i64(FAR, 4)}),
    "Slice of the batch": (
        "m = Slice (n, zero, far, zero, one)",
        {"zero": i64(0), "far": i64(FAR), "one": i64(1)},
    ),
    "Slice from a negative start": (
        "m = Slice (n, back, far, one)",
        {"back": i64(-4), "far": i64(4), "one": i64(1)},
    ),
    "Transpose": ("m = Transpose <perm = [0, 1]> (n)", {}),
    "Concat": ("m = Concat <axis = 1> (n)", {}),
    "Reshape": ("m = Reshape (n, shape)", {"shape": i64(-1, 4)}),
    "Reshape with copies": ("m = Reshape (n, shape)", {"shape": i64(0, 0)}),
    "Expand": ("m = Expand (n, shape)", {"shape": i64(1, 4)}),
    "Expand to a computed shape": ("s = Shape (x)\n m = Expand (n, s)", {}),
}


@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize("case", SAME)
def test_a_node_that_changes_nothing_goes_away(case, opset):
    line, constants = SAME[case]
    after = rewritten(NAME, between(line, opset=opset, **constants), 1)
    assert ops(after) == ["Neg", "Abs"]


DIFFERENT = {
    "Pad": ("m = Pad (n, pads)", {"pads": i64(0, 0, 0, 1)}),
    "Pad that crops": ("m = Pad (n, pads)", {"pads": i64(0, -1, 0, 0)}),
    "Pad that crops one side and fills the other": ("m = Pad (n, pads)", {"pads": i64(0, -1, 0, 1)}),
    "Slice of a part": ("m = Slice (n, zero, three, one)", {"zero": i64(0), "three": i64(3), "one": i64(1)}),
    "Slice that turns round": (
        "m = Slice (n, back, far, one, back)",
        {"back": i64(-1), "far": i64(-FAR), "one": i64(1)},
    ),
    "Slice that turns the batch round": (
        "m = Slice (n, back, far, zero, back)",
        {"back": i64(-1), "far": i64(-FAR), "zero": i64(0)},
    ),
    "Slice of every other": (
        "m = Slice (n, zero, far, one, two)",
        {"zero": i64(0), "far": i64(FAR), "one": i64(1), "two": i64(2)},
    ),
    "Slice of all, then of a part": ("m = Slice (n, zero, ends)", {"zero": i64(0, 0), "ends": i64(FAR, 3)}),
    "Transpose": ("m = Transpose <perm = [1, 0]> (n)", {}),
    "Transpose without perm": ("m = Transpose (n)", {}),
    "Concat of two": ("m = Concat <axis = 0> (n, n)", {}),
    "Concat with a constant": ("m = Concat <axis = 0> (n, c)", {"c": f32(1, 4)}),
    "Reshape": ("m = Reshape (n, shape)", {"shape": i64(-1, 2)}),
    "Reshape that swaps": ("m = Reshape (n, shape)", {"shape": i64(4, -1)}),
    "Expand": ("m = Expand (n, shape)", {"shape": i64(2, 1, 1)}),
    "Cast and back": ("h = Cast <to = 10> (n)\n m = Cast <to = 1> (h)", {}),
    "CastLike": ("h = CastLike (n, half)\n m = Cast <to = 1> (h)", {"half": np.ones(1, np.float16)}),
}


@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize("case", DIFFERENT)
def test_a_node_that_changes_something_stays(case, opset):
    line, constants = DIFFERENT[case]
    model = between(line, opset=opset, out="k, l, m" if case == "Expand" else "k, l", **constants)
    assert ops(rewritten(NAME, model, 0)) == ops(model)


def test_pads_on_chosen_axes():
    text = "m = Pad (n, pads, , axes)"
    assert ops(rewritten(NAME, between(text, pads=i64(0, 0), axes=i64(1)), 1)) == ["Neg", "Abs"]
    assert "Pad" in ops(rewritten(NAME, between(text, pads=i64(0, 1), axes=i64(0)), 0))


def test_refused_pads_and_bounds_that_are_not_known():
    model = graph(
        """(float[batch, 4] x) => (float[k, l] y, float[k, m] z) {
            top = ArgMax <axis = 0, keepdims = 0> (x)
            some = Gather (top, zero)
            n = Neg (x)
            s = Slice (n, zero, some, one)
            y = Abs (s)
            pads = Concat <axis = 0> (zeros, some)
            p = Pad (n, pads)
            z = Abs (p)
        }""",
        zero=i64(0),
        one=i64(1),
        zeros=i64(0, 0, 0),
    )
    rewritten(NAME, model, 0)


def test_half_precision():
    model = between("a = Cast <to = 10> (n)\n b = Identity (a)\n m = Cast <to = 1> (b)", kind="float16")
    model.graph.output[0].type.tensor_type.elem_type = 1
    assert ops(rewritten(NAME, model, 2)) == ["Neg", "Cast", "Abs"]


def test_a_chain_of_identities_between_input_and_consumer():
    model = graph(
        "(float[batch, 4] x) => (float[batch, 4] y) { a = Identity (x)\n b = Identity (a)\n"
        " c = Identity (b)\n y = Neg (c) }"
    )
    assert ops(rewritten(NAME, model, 3)) == ["Neg"]


def test_a_chain_of_identities_that_ends_in_an_output():
    model = graph(
        "(float[batch, 4] x) => (float[batch, 4] y) { n = Neg (x)\n a = Identity (n)\n"
        " b = Cast <to = 1> (a)\n y = Identity (b) }"
    )
    after = rewritten(NAME, model, 3)
    assert ops(after) == ["Neg"] and after.graph.node[0].output[0] == "y"


def test_refused_between_an_input_and_an_output():
    model = graph("(float[batch, 4] x) => (float[batch, 4] y) { y = Identity (x) }")
    assert ops(rewritten(NAME, model, 0)) == ["Identity"]


def test_a_chain_from_input_to_output_leaves_one():
    model = graph("(float[batch, 4] x) => (float[batch, 4] y) { a = Identity (x)\n y = Identity (a) }")
    assert ops(rewritten(NAME, model, 1)) == ["Identity"]


def test_refused_between_a_constant_and_an_output():
    model = graph("(float[batch, 4] x) => (float[batch, 4] y, float[4] z) { y = Neg (x)\n z = Identity (c) }", c=f32(4))
    assert ops(rewritten(NAME, model, 0)) == ["Neg", "Identity"]


def test_refused_between_two_outputs():
    model = graph("(float[batch, 4] x) => (float[batch, 4] y, float[batch, 4] z) { y = Neg (x)\n z = Identity (y) }")
    assert ops(rewritten(NAME, model, 0)) == ["Neg", "Identity"]


def test_of_two_identities_of_one_tensor_that_are_both_outputs_one_stays():
    model = graph(
        "(float[batch, 4] x) => (float[batch, 4] y, float[batch, 4] z) { n = Neg (x)\n"
        " y = Identity (n)\n z = Identity (n) }"
    )
    assert ops(rewritten(NAME, model, 1)) == ["Neg", "Identity"]


def test_the_result_is_an_output_and_is_read_inside():
    model = graph(
        "(float[batch, 4] x) => (float[batch, 4] y, float[batch, 4] z) { n = Neg (x)\n y = Identity (n)\n"
        " z = Mul (y, n) }"
    )
    after = rewritten(NAME, model, 1)
    assert ops(after) == ["Neg", "Mul"] and list(after.graph.node[1].input) == ["y", "y"]


def test_the_source_is_an_output_and_the_result_is_read_inside():
    model = graph(
        "(float[batch, 4] x) => (float[batch, 4] n, float[batch, 4] z) { n = Neg (x)\n a = Identity (n)\n"
        " z = Mul (a, n) }"
    )
    assert ops(rewritten(NAME, model, 1)) == ["Neg", "Mul"]


def test_a_cast_to_the_same_type_that_makes_an_output():
    model = graph("(float[batch, 4] x) => (float[batch, 4] y) { n = Neg (x)\n y = Cast <to = 1> (n) }")
    after = rewritten(NAME, model, 1)
    assert ops(after) == ["Neg"] and after.graph.node[0].output[0] == "y"


def test_one_output_of_several_passed_on():
    model = graph(
        """(float[batch, 4] x) => (float[batch, 2] y, float[batch, 2] z) {
            a, b = Split <axis = 1, num_outputs = 2> (x)
            y = Identity (b)
            z = Sub (a, y)
        }"""
    )
    after = rewritten(NAME, model, 1)
    assert list(after.graph.node[0].output) == ["a", "y"]


def test_a_constant_passed_on():
    model = graph("(float[batch, 4] x) => (float[batch, 4] y) { a = Identity (c)\n y = Add (x, a) }", c=f32(4))
    assert initializer(rewritten(NAME, model, 1), "c").shape == (4,)


def test_refused_dropout_whose_mask_is_used():
    model = graph(
        "(float[batch, 4] x) => (float[batch, 4] y, bool[batch, 4] mask) { n = Neg (x)\n"
        " d, mask = Dropout (n)\n y = Abs (d) }"
    )
    assert "Dropout" in ops(rewritten(NAME, model, 0))


def test_refused_dropout_in_training():
    model = between("m = Dropout <seed = 1> (n, ratio, yes)", ratio=np.float32(0.9), yes=np.array(True))
    matches, after = apply(NAME, model)
    assert matches == 0 and "Dropout" in ops(after)


def test_refused_dropout_of_which_an_input_says_whether_it_trains():
    model = graph(
        "(float[batch, 4] x, bool train) => (float[batch, 4] y) "
        "{ n = Neg (x)\n d = Dropout (n, half, train)\n"
        " y = Abs (d) }",
        half=np.float32(0.5),
    )
    assert apply(NAME, model)[0] == 0


@pytest.mark.parametrize("rows, size", [("size, b", 3), ("b, size", 39)])
def test_refused_an_expand_that_expands_at_some_batches_only(rows, size):
    """max(3 - batch, 1) rows are two at batch 1 alone, max(batch - 39, 1) are more than one from 41 on."""
    model = graph(
        f"""(float[batch, 4] x) => (float[n, 4] y) {{
            sum = ReduceMax (x, axis)
            b = Shape <end = 1> (x)
            more = Sub ({rows})
            n = Max (more, one)
            shape = Concat <axis = 0> (n, one)
            rows = Expand (sum, shape)
            y = Abs (rows)
        }}""",
        axis=i64(0),
        size=i64(size),
        one=i64(1),
    )
    assert "Expand" in ops(rewritten(NAME, model, 0, batches=(1, 3, 64)))


def test_refused_a_slice_whose_end_lies_beyond_the_probes():
    model = between("m = Slice (n, zero, most, zero)", zero=i64(0), most=i64(48))
    assert "Slice" in ops(rewritten(NAME, model, 0, batches=(1, 3, 64)))


def test_refused_a_shape_that_is_not_known():
    model = graph(
        """(float[batch, 4] x) => (float[k, l] y) {
            hits = NonZero (x)
            whole = Cast <to = 1> (hits)
            shape = Shape (whole)
            same = Reshape (whole, shape)
            y = Abs (same)
        }"""
    )
    assert "Reshape" in ops(rewritten(NAME, model, 0))


def test_refused_a_part_of_an_axis_whose_length_is_the_datas():
    """Before and after, all that is known of the axis is that it is not known."""
    model = graph(
        """(float[batch, 4] x) => (float[k, l] y) {
            hits = NonZero (x)
            whole = Cast <to = 1> (hits)
            part = Slice (whole, zero, three, one)
            y = Abs (part)
        }""",
        zero=i64(0),
        three=i64(3),
        one=i64(1),
    )
    assert "Slice" in ops(rewritten(NAME, model, 0))


def test_refused_a_cast_between_two_types_that_are_not_known():
    model = graph(
        "(float[batch, 4] x) => (float[batch, 4] y){ n = Mystery (x)\n m = CastLike (n, n)\n y = Mystery (m) }"
    )
    for node in (model.graph.node[0], model.graph.node[2]):
        node.domain = "com.example"
    model.opset_import.add(domain="com.example", version=1)
    assert apply(NAME, model)[0] == 0


def test_two_consumers_and_an_inner_chain():
    model = graph(
        """(float[batch, 4] x) => (float[batch, 4] y, float[batch, 4] z) {
            n = Neg (x)
            a = Transpose <perm = [0, 1]> (n)
            b = Reshape (a, shape)
            y = Mul (a, b)
            z = Sub (b, c)
        }""",
        shape=i64(-1, 4),
        c=f32(4),
    )
    assert ops(rewritten(NAME, model, 2)) == ["Neg", "Mul", "Sub"]


def test_nothing_to_find():
    model = between("m = Exp (n)")
    matches, after = apply(NAME, model)
    assert matches == 0
    assert_same(model, after)
