import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graphs import f32, graph, i64

from exporter import detached, spreads

NORM = "LayerNormalization <axis = -1>"


def surgery(text, inputs="float[batch, 7, 32] x", **weights):
    return gs.import_onnx(graph(f"({inputs}) => (float[batch, 7, 32] y) {{ {text} }}", **weights))


def norms(made):
    return [node for node in made.nodes if node.op == "LayerNormalization"]


def test_of_plain_noise_every_channel_varies_by_one_and_a_massive_one_takes_it_from_the_others():
    offset = np.zeros(32, np.float32)
    offset[3] = 1000.0
    made = surgery(f"a = {NORM} (x, g, s)  o = Add (x, big)  y = {NORM} (o, g, s)", g=f32(32), s=f32(32), big=offset)
    found = spreads.of(made, norms(made))
    plain, massive = (found[node.name] for node in norms(made))
    assert np.square(plain).mean() == pytest.approx(1, rel=1e-4) and plain.min() > 0.4
    assert massive[3] == pytest.approx(31 / 31**0.5, rel=1e-3) and np.delete(massive, 3).max() < 0.25


def test_the_graph_is_left_as_it_is():
    made = surgery(f"a = MatMul (x, w)  y = {NORM} (a, g, s)", g=f32(32), s=f32(32), w=f32(32, 32))
    before = gs.export_onnx(made).SerializeToString()
    assert spreads.of(made, norms(made)) and gs.export_onnx(made).SerializeToString() == before
    assert not any(isinstance(t._values, detached.Held) for t in made.tensors().values() if isinstance(t, gs.Constant))


@pytest.mark.parametrize("inputs", ["float[batch, 7, 32] x, float[batch, 7, 32] z", "float[batch, n, 32] x"])
def test_of_another_input_nothing_is_known(inputs):
    made = surgery(f"a = {NORM} (x, g, s)  y = Relu (a)", inputs, g=f32(32), s=f32(32))
    assert spreads.of(made, norms(made)) == {}


def test_a_fixed_batch_is_kept():
    text = f"r = Reshape (x, shape)  y = {NORM} (r, g, s)"
    made = surgery(text, "float[3, 224] x", shape=i64(3, 7, 32), g=f32(32), s=f32(32))
    assert np.square(spreads.of(made, norms(made))[norms(made)[0].name]).mean() == pytest.approx(1, rel=1e-4)
