import json

import bundles
import pytest

from exporter.reporting import accuracies, published, rooflines

ROWS = {"torch": {"status": "measured", "top1": 0.98, "top5": 1.0},
        "typed": {"status": "measured", "top1": 0.97, "top5": 1.0, "drop": 1.0},
        "engine": {"status": "not run", "why": "no GPU"}}  # fmt: skip


@pytest.fixture
def built(tmp_path):
    for name in ("fp16", "int8"):
        bundles.write(tmp_path, name, stages={"type": f"{name}-key"})
    return tmp_path


def measured(out, name="fp16", stage="fp16-key", rows=ROWS):
    path = out / "toy" / name / "accuracy.json"
    path.write_text(json.dumps({"stage": stage, "data": "digits", "images": 450, "rows": rows}))


def of(out):
    return accuracies.of(published.find(out, "toy")[0])


def test_a_model_that_nobody_measured_has_no_section(built):
    assert of(built) is None


def test_what_was_measured_is_a_row_and_a_point_at_the_speed_of_its_floor(built):
    measured(built)
    made = of(built)
    assert made["table"].rows == [("fp16", "torch", "98.00", "", "450 of digits"),
                                  ("fp16", "typed", "97.00", "1.00", "450 of digits")]  # fmt: skip
    # two images, a floor of 3 us and two launches of 1.5 us
    assert "fp16: 97.00 % at 333333 images a second" in made["label"] and made["plot"].count("<svg") == 2


def test_a_detector_is_judged_by_ap50(built):
    measured(built, rows={"torch": {"status": "measured", "ap": 0.5, "ap50": 0.8}})
    assert of(built)["table"].caption.startswith("AP50") and of(built)["table"].rows[0][2] == "80.00"


@pytest.mark.parametrize("stage, rows, says", [("another", ROWS, "was here before"), ("fp16-key", [], "no object")])
def test_what_is_of_another_graph_or_damaged_is_said_and_not_shown(stage, rows, says, built):
    measured(built, stage=stage, rows=rows)
    made = of(built)
    assert made["table"] is None and says in made["left"][0]


def kernel(flops, kind="matmul", rows=1000):
    tensor = {"name": "x", "shape": [rows, 1000], "type": "Half", "bytes": 2000 * rows}
    return {"name": "k", "layer_type": "kgen", "kind": kind, "inputs": [tensor], "outputs": [tensor], "constants": [],
            "nodes": ["n"], "tactic": "", "flops": flops, "bytes": 4000 * rows, "block": "b"}  # fmt: skip


def test_products_stand_under_the_roof_and_what_only_moves_does_not(tmp_path):
    made = [kernel(10**6), kernel(10**12), kernel(0, "copy")]
    bundles.write(tmp_path, "fp16", kernels={"batch_at_opt": 2, "kernels": [{"name": "k"}] * 3, "at_opt": made})
    found = rooflines.of(published.find(tmp_path, "toy")[0])
    assert found["plot"].count("<svg") == 2
    assert "fp16: 1 of 2 products held by memory" in found["label"] and "A100" in found["chip"]


def test_kernels_without_sizes_have_no_roof(built):
    assert rooflines.of(published.find(built, "toy")[0]) is None
