"""Streams of tokens in a graph: which tensors are the same rows, in which order, and what is no stream."""

import numpy as np
import onnx_graphsurgeon as gs
from graphs import f32, graph, i64

from exporter.orders import Order
from exporter.rewriting import shapes_of
from exporter.streams import Streams


def read(lines, **weights):
    model = graph(f"(float[batch, 4, 3] x) => (float[a, b, c] y) {{ {lines} }}", w=f32(3, 3), **weights)
    surgery = gs.import_onnx(model)
    streams = Streams(surgery, shapes_of(model))
    return streams, {name: streams.frame(tensor) for name, tensor in surgery.tensors().items()}


def test_rows_keep_their_names_through_movement():
    streams, framed = read(
        "m = MatMul (x, w)\n e = Exp (m)\n g = Gather <axis = 1> (e, back)\n n = Neg (g)\n y = Abs (n)",
        back=i64(3, 2, 1, 0),
    )
    assert streams.moves == 1 and framed["y"].value.stream is framed["m"].value.stream
    assert framed["e"].order.natural and framed["y"].order == Order(np.array([3, 2, 1, 0]))
    assert framed["x"] is None and framed["g"].value is framed["e"].value


def test_the_batch_in_the_second_place_is_an_order():
    _, framed = read("m = MatMul (x, w)\n e = Exp (m)\n t = Transpose <perm = [1, 0, 2]> (e)\n y = Neg (t)")
    assert framed["y"].order == Order(np.arange(4), 4)


def test_rows_side_by_side_are_a_value_of_their_own():
    _, framed = read("m = MatMul (x, w)\n e = Exp (m)\n r = Reshape (e, pairs)\n y = Neg (r)", pairs=i64(-1, 2, 6))
    joined = framed["r"].value
    assert joined.members.tolist() == [[0, 1], [2, 3]] and joined.width == 6
    assert joined.stream is not framed["e"].value.stream and joined.inputs == (framed["e"].value,)


def test_streams_that_meet_are_one():
    streams, framed = read(
        "a = MatMul (x, w)\n b = Softmax <axis = 1> (x)\n c = Exp (b)\n d = Exp (a)\n y = Add (c, d)"
    )
    assert framed["c"].value.stream is framed["d"].value.stream and streams.moves == 0


def test_what_is_no_row_begins_another_stream_or_none():
    _, framed = read(
        "m = MatMul (x, w)\n t = Transpose <perm = [0, 2, 1]> (m)\n e = Exp (t)\n y = Softmax <axis = 1> (e)"
    )
    assert framed["e"].value.stream is not framed["m"].value.stream
    assert framed["y"].value.stream is not framed["e"].value.stream
