from exporter.located import _by_likeness


def test_among_tensors_of_the_same_values_one_of_the_units_own_shape_comes_first():
    found = {"rolled": 2.0e-7, "windows": 2.5e-7, "own": 2.9e-7, "other": 0.3}
    assert _by_likeness(found, {"own", "other"}) == ["own", "rolled", "windows", "other"]
    assert _by_likeness({"near": 1e-3, "own": 0.2}, {"own"}) == ["near", "own"]
    assert _by_likeness({}, set()) == []
