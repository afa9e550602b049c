import numpy as np
import onnx
import pytest
from graphs import f32, run
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.emit import Emitter
from exporter.orders import Order, convert, recognised

few = settings(deadline=None, max_examples=25, derandomize=True)


@st.composite
def orders(draw, count=None):
    count = count or draw(st.integers(1, 12))
    positions = draw(st.sampled_from([n for n in range(1, count + 1) if count % n == 0]))
    return Order(np.array(draw(st.permutations(range(count)))), positions)


@few
@given(orders(), st.integers(2, 5))
def test_an_order_is_recognised_in_its_rows(order, batch):
    assert recognised(order.rows(batch), batch) == order


@few
@given(orders(), st.integers(1, 4))
def test_rows_hold_each_token_of_each_image_once(order, batch):
    rows = order.rows(batch)
    assert rows.shape == (batch * len(order.tokens), 2)
    assert len({tuple(row) for row in rows.tolist()}) == len(rows)


@few
@given(orders(), st.data())
def test_other_names_for_the_same_rows(order, data):
    sigma = np.array(data.draw(st.permutations(range(len(order.tokens)))))
    moved = order.moved(sigma)
    np.testing.assert_array_equal(moved.rows(3)[:, 1], sigma[order.rows(3)[:, 1]])
    assert moved.moved(np.argsort(sigma)) == order


@few
@given(orders(), st.integers(1, 3), st.data())
def test_the_order_of_what_is_put_together(order, k, data):
    count = len(order.tokens)
    members = np.array(data.draw(st.permutations(range(count * k)))).reshape(count, k)
    wide = order.expanded(members).rows(2).reshape(-1, k, 2)
    np.testing.assert_array_equal(wide[..., 1], members[order.rows(2)[:, 1]])
    np.testing.assert_array_equal(wide[..., 0], np.repeat(order.rows(2)[:, :1], k, 1))


@pytest.mark.parametrize(
    "rows",
    [
        [[0, 0], [1, 0], [0, 1], [0, 2], [1, 1], [1, 2]],  # groups of different lengths
        [[0, 0], [0, 1], [1, 1], [1, 0]],  # another order in each image
        [[0, 0], [0, 0], [1, 0], [1, 0]],  # a token twice
        [[1, 0], [1, 1], [0, 0], [0, 1]],  # the second image first
        [[0, 0], [0, 2], [1, 0], [1, 2]],  # a token too far
        [[0, 0], [0, 1], [0, 0], [0, 1]],  # one image twice
    ],
)
def test_rows_in_no_order(rows):
    assert recognised(np.array(rows), 2) is None


def test_natural():
    assert Order(np.arange(6)).natural
    assert not Order(np.arange(6), 2).natural and not Order(np.array([1, 0])).natural


def test_equal_orders_are_one_key():
    assert len({Order(np.arange(4)), Order(np.arange(4)), Order(np.arange(4), 2), Order(np.arange(4)[::-1])}) == 3
    assert Order(np.arange(2)) != None and Order(np.arange(2)) != "order"  # noqa: E711


def converted(here: Order, there: Order, width: int) -> onnx.ModelProto:
    """x (rows, width) in one order -> y in the other."""
    import onnx_graphsurgeon as gs

    x, y = gs.Variable("x", np.float32, ("rows", width)), gs.Variable("y", np.float32, ("rows", width))
    graph = gs.Graph([], [x], [], opset=22, ir_version=10)
    like = gs.Node("Neg", "blocks.0/Neg_0")
    made = convert(Emitter(graph, like), x, here, there, width)
    graph.nodes.append(gs.Node("Identity", "end", inputs=[made], outputs=[y]))
    graph.outputs = [y]
    return gs.export_onnx(graph.cleanup().toposort())


@few
@given(st.integers(1, 8).flatmap(lambda n: st.tuples(orders(n), orders(n))), st.integers(1, 4), st.integers(1, 3))
def test_conversion_puts_every_row_where_it_is_wanted(pair, batch, width):
    here, there = pair
    model = converted(here, there, width)
    table = f32(batch, len(here.tokens), width)
    matrix, due = (table[rows[:, 0], rows[:, 1]] for rows in (order.rows(batch) for order in pair))
    np.testing.assert_array_equal(run(model, {"x": matrix})["y"], due)
    np.testing.assert_array_equal(run(converted(there, here, width), {"x": due})["y"], matrix)


@few
@given(orders())
def test_conversion_to_itself_moves_nothing(order):
    ops = [n.op_type for n in converted(order, order, 2).graph.node]
    assert "Gather" not in ops


def test_a_conversion_between_images_is_one_gather():
    ops = [n.op_type for n in converted(Order(np.arange(4)), Order(np.array([1, 0, 3, 2])), 2).graph.node]
    assert ops.count("Gather") == 1 and "Transpose" not in ops
