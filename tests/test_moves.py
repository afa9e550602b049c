"""Maps say what ONNX Runtime does: every movement is run on numbers that name their places."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graphs import graph, i64, run
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import moves
from exporter.moves import Maps, is_move, scalar_factor
from exporter.rewriting import shapes_of

FAR = 2**63 - 1

MOVES = {
    "Reshape": ("y = Reshape (n, to)", {"to": i64(-1, 3, 2, 2)}),
    "Reshape with copied axes": ("y = Reshape (n, to)", {"to": i64(0, 2, 2, 6)}),
    "Transpose": ("y = Transpose <perm = [0, 2, 1]> (n)", {}),
    "Transpose without perm": ("t = Transpose (n)\n y = Transpose <perm = [2, 0, 1]> (t)", {}),
    "Slice": ("y = Slice (n, a, b, c)", {"a": i64(1), "b": i64(3), "c": i64(1)}),
    "Slice, steps": ("y = Slice (n, a, b, c, d)", {"a": i64(1), "b": i64(FAR), "c": i64(-1), "d": i64(2)}),
    "Slice, backwards": ("y = Slice (n, a, b, c, d)", {"a": i64(-1), "b": i64(-FAR), "c": i64(2), "d": i64(-1)}),
    "Slice, back to the start": (
        "y = Slice (n, a, b, c, d)",
        {"a": i64(2), "b": i64(-4), "c": i64(1), "d": i64(-1)},
    ),
    "Slice, backwards from afar": ("y = Slice (n, a, b, c, d)", {"a": i64(99), "b": i64(0), "c": i64(1), "d": i64(-2)}),
    "Slice of all axes": ("y = Slice (n, a, b)", {"a": i64(0, 1, 1), "b": i64(FAR, 4, -1)}),
    "Slice from before the start": ("y = Slice (n, a, b, c)", {"a": i64(-99), "b": i64(2), "c": i64(1)}),
    "Split": ("a, y = Split <axis = 1> (n, to)", {"to": i64(1, 3)}),
    "Split into equal parts": ("y, b = Split <axis = 2, num_outputs = 2> (n)", {}),
    "Squeeze": ("u = Unsqueeze (n, a)\n y = Squeeze (u, a)", {"a": i64(1)}),
    "Squeeze, negative axes": ("u = Unsqueeze (n, a)\n y = Squeeze (u, a)", {"a": i64(-1, 0)}),
    "Unsqueeze": ("y = Unsqueeze (n, a)", {"a": i64(0, 2)}),
    "Flatten": ("y = Flatten <axis = 1> (n)", {}),
    "Flatten in front of all": ("y = Flatten <axis = 0> (n)", {}),
    "Flatten, negative": ("y = Flatten <axis = -1> (n)", {}),
    "Gather": ("y = Gather <axis = 1> (n, a)", {"a": i64(3, 0, -1, 0)}),
    "Gather a number": ("y = Gather <axis = 2> (n, a)", {"a": np.int64(-2)}),
    "Gather a table": ("y = Gather <axis = 1> (n, a)", {"a": np.int64([[0, 1], [3, 2]])}),
    "Concat": ("a = Slice (n, z, o, o)\n y = Concat <axis = -2> (n, a, n)", {"z": i64(0), "o": i64(1)}),
}
MOVES["Split into parts of which one is shorter"] = (
    "t = Slice (n, z, three, two)\n a, b, y = Split <axis = 2, num_outputs = 3> (t)",
    {"z": i64(0), "three": i64(5), "two": i64(2)},
)


def numbered(lines, **weights):
    return graph(f"(float[batch, 4, 6] x) => (float[a, b] y) {{ n = Neg (x)\n {lines} }}", **weights)


def check(model, batch, factor=1.0):
    surgery = gs.import_onnx(model)
    (y,) = surgery.outputs
    found = Maps(shapes_of(model)).of(y, batch, factors=factor != 1.0)
    x = np.arange(batch * 24, dtype=np.float32).reshape(batch, 4, 6)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    due = run(model, {"x": x})["y"]
    assert found.source.name == "n" and found.source_shape == (batch, 4, 6)
    np.testing.assert_allclose(-x.reshape(-1)[found.places] * found.factor, due, rtol=1e-6)
    assert found.places.shape == due.shape and found.factor == pytest.approx(factor)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("case", MOVES)
def test_a_map_says_what_a_movement_does(case, batch):
    lines, weights = MOVES[case]
    check(numbered(lines, **weights), batch)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.data())
def test_drawn_slices(data):
    bound = st.integers(-8, 8)
    step = data.draw(st.sampled_from([-3, -2, -1, 1, 2, 3]))
    start, end = data.draw(bound), data.draw(bound)
    length = len(range(*slice(max(start, -6) if step > 0 else start, end, step).indices(6)))
    model = numbered("y = Slice (n, a, b, c, d)", a=i64(start), b=i64(end), c=i64(2), d=i64(step))
    if length and not (step < 0 and start < -6):
        check(model, 2)


def test_a_chain_of_all_of_them():
    lines = """r = Reshape (n, to)
        t = Transpose <perm = [0, 2, 1, 3]> (r)
        a, b = Split <axis = 3, num_outputs = 2> (t)
        c = Concat <axis = 2> (b, a, b)
        g = Gather <axis = 1> (c, i)
        y = Flatten (g)"""
    check(numbered(lines, to=i64(-1, 2, 2, 6), i=i64(1, 0)), 3)


def test_factors_are_looked_through_where_they_are_asked_for():
    lines = "m = Mul (n, two)\n t = Transpose <perm = [0, 2, 1]> (m)\n d = Div (t, four)\n y = Mul (three, d)"
    model = numbered(lines, two=np.float32(2), four=np.float32([4]), three=np.float32(3))
    check(model, 2, factor=1.5)
    found = Maps(shapes_of(model)).of(gs.import_onnx(model).outputs[0], 2)
    assert found.source.name == "y" and found.factor == 1


@pytest.mark.parametrize(
    "line",
    [
        "y = Mul (n, n)",
        "y = Mul (n, row)",
        "y = Div (one, n)",
        "y = Relu (n)",
        "y = Concat <axis = 1> (n, x)",
        "y = Concat <axis = 1> (n, c)",
        "y = Identity (n)",
        "i = ArgMax (n)\n y = Gather <axis = 1> (n, i)",
        "s = Shape (x)\n y = Reshape (n, s)",
    ],
)
def test_what_is_no_movement_is_where_it_begins(line):
    model = numbered(line, row=np.ones(6, np.float32), one=np.float32(1), c=np.ones((1, 4, 6), np.float32))
    y = gs.import_onnx(model).outputs[0]
    found = Maps(shapes_of(model)).of(y, 1, factors=True)
    assert found is None or found.source is y


def test_the_source_of_two_concats_with_two_sources_is_the_first_one():
    lines = "c = Concat <axis = 1> (n, x)\n t = Transpose <perm = [0, 2, 1]> (c)\n y = Concat <axis = 1> (t, t)"
    model = numbered(lines)
    found = Maps(shapes_of(model)).of(gs.import_onnx(model).outputs[0], 2)
    assert found.source.name == "c" and found.places.shape == (2, 12, 8)


def test_a_batch_that_a_movement_cannot_take_has_no_map():
    model = numbered("y = Reshape (n, to)", to=i64(2, 24))
    surgery = gs.import_onnx(model)
    maps = Maps(shapes_of(model))
    assert maps.of(surgery.outputs[0], 2) is not None and maps.of(surgery.outputs[0], 3) is None


def test_a_large_region_has_no_map(monkeypatch):
    from exporter import moves

    monkeypatch.setattr(moves, "LIMIT", 23)
    model = numbered("y = Transpose <perm = [0, 2, 1]> (n)")
    assert Maps(shapes_of(model)).of(gs.import_onnx(model).outputs[0], 1) is None


@pytest.mark.parametrize(
    "line, keeps",
    [
        ("y = Transpose <perm = [1, 0, 2]> (n)", True),
        ("y = Transpose <perm = [0, 2, 1]> (n)", False),
        ("y = Reshape (n, rows)", True),
        ("y = Reshape (n, other)", False),
        ("y = Gather <axis = 1> (n, back)", True),
        ("y = Gather <axis = 2> (n, back)", False),
        ("y, b = Split <axis = 2, num_outputs = 2> (n)", False),
    ],
)
def test_movement_of_whole_rows(line, keeps):
    model = numbered(line, rows=i64(-1, 6), other=i64(-1, 4, 2, 3), back=i64(3, 2, 1, 0, 4, 5)[:4])
    surgery = gs.import_onnx(model)
    mover = next(n for n in surgery.nodes if is_move(n))
    assert Maps(shapes_of(model)).keeps_columns(mover) == keeps


def test_a_factor_is_one_number_and_a_constant():
    model = numbered(
        "a = Mul (n, two)\n b = Mul (two, a)\n c = Div (b, two)\n d = Div (two, c)\n y = Mul (two, two)",
        two=np.float32(2),
    )
    assert [scalar_factor(n) and scalar_factor(n)[1] for n in gs.import_onnx(model).nodes] == [
        None,
        2,
        2,
        0.5,
        None,
        None,
    ]


BLOCKS = {
    "the same": ("Transpose <perm = [0, 2, 1]> (n)", "Transpose <perm = [0, 2, 1]> (m)", True),
    "another attribute": ("Transpose <perm = [0, 2, 1]> (n)", "Transpose <perm = [1, 0, 2]> (m)", False),
    "another constant": ("Gather <axis = 1> (n, a)", "Gather <axis = 1> (m, b)", False),
    "the same constant under another name": ("Gather <axis = 1> (n, a)", "Gather <axis = 1> (m, c)", True),
    "another operator": ("Squeeze (n)", "Flatten <axis = 1> (m)", False),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_maps_of_one_kind_are_those_of_regions_that_are_alike(name):
    first, second, alike = BLOCKS[name]
    model = graph(
        f"(float[batch, 4, 6] x) => (float[a, b, c] y, float[d, e, f] z) {{ n = Neg (x)\n m = Abs (x)\n"
        f" y = {first}\n z = {second} }}",
        a=i64(3, 0, 1, 2), b=i64(0, 1, 2, 3), c=i64(3, 0, 1, 2),
    )  # fmt: skip
    surgery = gs.import_onnx(model)
    maps = Maps(shapes_of(model))
    y, z = (maps.of(t, 2) for t in surgery.outputs)
    assert (y.kind == z.kind) == alike
    for found, own in ((y, surgery.outputs[0]), (z, surgery.outputs[1])):
        fresh = Maps(shapes_of(model)).of(own, 2)
        assert np.array_equal(found.places, fresh.places) and found.source is fresh.source
    assert maps.of(surgery.outputs[0], 3).kind != y.kind


def test_a_view_is_counted_with_what_it_is_a_view_of():
    whole = np.arange(24)
    assert moves._held(None) == 0 and moves._held(whole[:2].reshape(2, 1)) == whole.nbytes == moves._held(whole)


def test_each_part_of_a_split_is_of_a_kind_of_its_own():
    model = graph(
        "(float[batch, 4, 6] x) => (float[a, b, c] y, float[d, e, f] z) { n = Neg (x)\n"
        " y, z = Split <axis = 2, num_outputs = 2> (n) }"
    )
    maps = Maps(shapes_of(model))
    y, z = (maps.of(t, 2) for t in gs.import_onnx(model).outputs)
    assert y.kind != z.kind and not np.array_equal(y.places, z.places)


def test_what_is_kept_of_maps_has_a_bound(monkeypatch):
    model = numbered("y = Transpose <perm = [0, 2, 1]> (n)")
    (y,) = gs.import_onnx(model).outputs
    monkeypatch.setattr(moves, "KEPT", 0)
    maps = Maps(shapes_of(model))
    assert [maps.of(y, batch).places.shape for batch in (1, 2, 3, 1)] == [(b, 6, 4) for b in (1, 2, 3, 1)]
    assert len(maps._known) == 1
