import numpy as np
import onnx
import pytest
from graphs import cast, run

from exporter import widening


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_16_bit_graph_computes_in_fp32_again(tiny_vit, precision):
    _, model = tiny_vit
    narrow = cast(model, precision).model
    assert widening.widen(narrow) > 10
    kinds = {t.data_type for t in narrow.graph.initializer}
    assert not kinds & set(widening.NARROW)
    onnx.checker.check_model(narrow, full_check=True)
    feed = {"pixels": np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)}
    (name,) = [o.name for o in model.graph.output]
    expected, found = run(model, feed)[name], run(narrow, feed)[name]
    rounded = {"fp16": 2**-9, "bf16": 2**-6}[precision]  # the weights were rounded once, some twofold in a sum
    np.testing.assert_allclose(found, expected, atol=rounded * np.abs(expected).max())
    assert np.abs(found - expected).max() > 0


def test_an_fp32_graph_is_left_alone(tiny_vit):
    _, model = tiny_vit
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    before = copy.SerializeToString(deterministic=True)
    assert widening.widen(copy) == 0 and copy.SerializeToString(deterministic=True) == before
