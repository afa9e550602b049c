import numpy as np

from exporter import guilt
from exporter.located import Located, Unit

LIMIT = 1e-5


def sure(name, own=1e-7):
    return Unit(name, name, "Add", None, 1e-7, True, own=own)


def near(name, own):
    return Unit(name, name, "Add", None, 0.01, False, own=own)


def absent(name, distance=np.inf):
    return Unit(name, None, distance=distance)


def first(*units, failed=False):
    found = guilt.first(Located(list(units), True, 3), LIMIT, failed)
    return found and found.name


def test_nobody_and_the_first_that_adds_too_much():
    assert first(sure("blocks.0.attn"), sure("blocks.1.attn")) is None
    assert first(sure("blocks.0.attn"), sure("blocks.1.attn", 1e-3), sure("blocks.2.attn", 1e-2)) == "blocks.1.attn"
    assert first(sure("blocks.0.attn"), sure("blocks.1.attn", float("nan"))) == "blocks.1.attn"


def test_a_doubtful_unit_needs_its_kind_or_a_failed_rung():
    assert first(near("stem", 1e-2), sure("norm")) is None
    assert first(near("stem", 1e-2), sure("norm"), failed=True) == "stem"
    assert first(sure("blocks.0.fc1"), near("blocks.1.fc1", 1e-2)) == "blocks.1.fc1"


def test_what_no_graph_of_this_form_has_is_not_missed():
    units = [absent("blocks.0.attn.qkv", 1.3), sure("blocks.0.attn.proj"), sure("blocks.0")]
    assert first(*units, failed=True) is None


def test_the_first_that_was_looked_for_in_vain_is_nearest_to_the_fault():
    before = [absent("blocks.0.attn.qkv", 1.3), sure("blocks.0.attn.proj"), sure("blocks.0")]
    after = [absent("blocks.1.attn.qkv", 1.3), absent("blocks.1.attn.proj", 0.6), near("blocks.1", 0.03)]
    assert first(*before, *after, failed=True) == "blocks.1.attn.proj"


def test_a_unit_with_nothing_behind_it_is_lost():
    assert first(sure("norm"), absent("head", 0.5), failed=True) == "head"
    assert first(sure("norm"), absent("head", 0.5)) is None


def test_a_doubtful_unit_with_nothing_sure_behind_it_counts():
    assert first(sure("norm"), near("head", 1e-2)) == "head"
    assert first(near("head", 1e-2), sure("norm")) is None
