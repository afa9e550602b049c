import bundles
import numpy as np
import pytest

from exporter.reporting import differences, published


def found(tmp_path, **fields):
    bundles.write(tmp_path, "fp16", **fields)
    return differences.of(tmp_path, published.find(tmp_path, "toy")[0][0])


def test_every_sample_is_compared_with_its_own_reference_worst_first(tmp_path):
    made = found(tmp_path)
    assert made.runs == 9 and len(made.rows) == 8
    assert made.rows[0].name == "noise 1" and made.rows[-1].name == "astronaut.png"
    spread = made.outputs["logits"]
    assert made.rows[0].error == pytest.approx(8e-3 / spread.scale, rel=1e-3) == spread.largest
    assert spread.exact == 0.9 and spread.broken == 0.0 and spread.count == 90
    assert spread.shares.sum() == pytest.approx(0.1)
    assert made.rows[0].typed["logits"][0] - made.rows[0].torch["logits"][0] == pytest.approx(8e-3, rel=1e-3)


def test_values_that_are_no_numbers_are_the_worst_and_are_counted(tmp_path):
    made = found(tmp_path, error=float("nan"))
    assert made.outputs["logits"].broken == 0.1 and made.outputs["logits"].largest == np.inf
    assert made.rows[0].error == np.inf


def test_why_nothing_is_known_is_said(tmp_path):
    assert found(tmp_path, cache=False) == "the cache no longer holds the stage reference of this build"


def test_outputs_of_another_schedule_are_refused(tmp_path):
    assert "do not fit together" in found(tmp_path, batch={"max": 9})


def test_a_histogram_holds_everything_that_differs():
    spread = differences.spread(np.array([0.0, 1e-30, 1e-3, 2e3, np.inf]))
    assert (spread.exact, spread.broken, spread.largest) == (0.2, 0.2, np.inf)
    assert spread.shares.sum() == pytest.approx(0.6) and spread.shares[0] == spread.shares[-1] == 0.2


def test_best_classes_and_boxes_are_the_surest_five():
    logits = np.array([0.0, 3.0, 1.0, 2.0, -1.0, 5.0], np.float32)
    best = differences.best_classes(logits)
    assert [c for c, _, _ in best] == [5, 1, 3, 2, 0] and sum(s for *_, s in best) < 1
    queries = np.array([[0, 9, 0], [0, 0, 9], [3, 0, 0]], np.float32)  # the second is sure of no object
    boxes = differences.best_boxes(queries, np.eye(3, 4, dtype=np.float32))
    assert [(q, c) for q, c, *_ in boxes] == [(0, 1), (2, 0), (1, 0)] and boxes[0][3] == [1.0, 0.0, 0.0, 0.0]


def test_eight_bits_were_judged_without_noise(tmp_path):
    bundles.write(tmp_path, "int8", noise=False)
    made = differences.of(tmp_path, published.find(tmp_path, "toy")[0][0])
    assert len(made.rows) == 6 and {row.name for row in made.rows}.isdisjoint({"noise 0", "noise 1"})
