from types import SimpleNamespace

import numpy as np
import planted
import pytest

from exporter.examined import Examined
from exporter.located import _by_likeness, _nearest, locate


def test_among_tensors_of_the_same_values_one_of_the_units_own_shape_comes_first():
    found = {"rolled": 2.0e-7, "windows": 2.5e-7, "own": 2.9e-7, "other": 0.3}
    assert _by_likeness(found, {"own", "other"}) == ["own", "rolled", "windows", "other"]
    assert _by_likeness({"near": 1e-3, "own": 0.2}, {"own"}) == ["near", "own"]
    assert _by_likeness({}, set()) == []


def test_a_product_before_its_bias_is_not_its_layers_answer_however_near():
    product = np.random.default_rng(0).standard_normal((3, 5, 8), dtype=np.float32)
    product[..., 3] = 1e5
    answer = product + np.float32(0.5)
    graph = SimpleNamespace(weights="float32", tensors={n: SimpleNamespace(op_type="Add") for n in ("product", "sum")})
    for order in (("product", "sum"), ("sum", "product")):
        values = {"product": product, "sum": answer}
        found = _nearest("fc2", answer, {name: values[name] for name in order}, graph)
        assert (found.tensor, found.sure, found.distance) == ("sum", True, 0.0)
    faulty = {"sum": answer + np.float32(1.0), "product": product}
    assert _nearest("fc2", answer, faulty, graph).tensor == "sum"


@pytest.mark.parametrize("form", ["windows", "positions_packed"])
def test_a_normalisation_is_found_without_its_scale_and_shift(form):
    seen = planted.subject("swin")
    model = planted.canonical(seen.recipe, seen.exported(), form)
    graph = Examined(model)
    assert len(graph.bare) == (0 if form == "windows" else 4)
    found = locate(graph, seen.module, [spec.name for spec in seen.recipe.outputs], planted.pixels(seen.recipe))
    norms = [u for u in found.units if u.name.endswith("norm1")]
    assert len(norms) == 4
    for unit in norms:
        assert unit.sure and unit.operator == "LayerNormalization" and unit.own < 1e-5
        assert (unit.alignment.affine is not None) == (unit.tensor in graph.bare)
