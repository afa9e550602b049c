import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graphs import f32, graph, i64

from exporter import detached, spreads
from exporter.rewriting import shapes_of

NORM = "LayerNormalization <axis = -1>"


def surgery(text, inputs="float[batch, 7, 32] x", **weights):
    model = graph(f"({inputs}) => (float[batch, 7, 32] y) {{ {text} }}", **weights)
    return gs.import_onnx(model), shapes_of(model)


def test_of_plain_noise_every_channel_varies_by_one_and_a_massive_one_takes_it_from_the_others():
    offset = np.zeros(32, np.float32)
    offset[3] = 1000.0
    text = f"a = {NORM} (x, g, s)  o = Add (x, big)  y = {NORM} (o, g, s)"
    found = spreads.of(*surgery(text, g=f32(32), s=f32(32), big=offset))
    assert sorted(found) == ["a", "y"]
    assert np.square(found["a"]).mean() == pytest.approx(1, rel=1e-4) and found["a"].min() > 0.4
    assert found["y"][3] == pytest.approx(31 / 31**0.5, rel=1e-3) and np.delete(found["y"], 3).max() < 0.25


def test_the_graph_is_left_as_it_is():
    made, shapes = surgery(f"a = MatMul (x, w)  y = {NORM} (a, g, s)", g=f32(32), s=f32(32), w=f32(32, 32))
    before = gs.export_onnx(made).SerializeToString()
    assert spreads.of(made, shapes) and gs.export_onnx(made).SerializeToString() == before
    assert not any(isinstance(t._values, detached.Held) for t in made.tensors().values() if isinstance(t, gs.Constant))


@pytest.mark.parametrize("inputs", [
    "float[batch, 7, 32] x, float[batch, 7, 32] z", "float[batch, n, 0] x", "float16[batch, 7, 32] x",
    "uint8[batch, 7, 32] x",
])  # fmt: skip
def test_of_another_input_nothing_is_known(inputs):
    text = f"c = Cast <to = 1> (x)  a = {NORM} (c, g, s)  y = Relu (a)"
    assert spreads.of(*surgery(text, inputs, g=f32(32), s=f32(32))) == {}


def test_normalisations_of_one_name_another_type_and_a_scale_of_another_shape():
    text = f"""h = Cast <to = 11> (x)  b = {NORM} (h, d, d)  i = Cast <to = 1> (b)  a = {NORM} (i, g, g)
               y = {NORM} (a, g, g)"""
    made, shapes = surgery(text, g=f32(1, 32), d=f32(32).astype(np.float64))
    for node in made.nodes:
        node.name = "same"
    assert sorted(spreads.of(made, shapes)) == ["a", "y"]


def test_a_fixed_batch_is_kept():
    text = f"r = Reshape (x, shape)  y = {NORM} (r, g, s)"
    found = spreads.of(*surgery(text, "float[3, 224] x", shape=i64(3, 7, 32), g=f32(32), s=f32(32)))
    assert np.square(found["y"]).mean() == pytest.approx(1, rel=1e-4)
