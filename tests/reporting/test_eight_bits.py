import bundles
import pytest

from exporter.reporting import eight_bits, inputs, page, published
from exporter.stages.place import WITHIN

ROW = {"kernels": 40, "fused": 6, "due": 6, "bytes_moved": 5_000_000, "floor_us": 100.0, "total_us": 180.0}
AGAINST = {"base": "fp16", "winner": "products", "gain": 1.25, "batch": 8, "left": [], "goal": "", "search": [],
           "rows": {"fp16": ROW | {"total_us": 225.0}, "products": ROW,
                    "all": {"refused": "no such tactic"}}}  # fmt: skip
CALIBRATION = {"source": "digits", "images": 512, "method": "mse", "skipped": 1}


def one(tmp_path, **changes):
    facts = {"against_base": AGAINST, "quantized": ["a", "b"], "calibration": CALIBRATION, "left_in_16_bit": {}}
    bundles.write(tmp_path, "int8", cache=False, **facts | changes)
    return published.find(tmp_path, "toy")[0]


def test_the_gain_how_it_was_calibrated_and_every_candidate(tmp_path):
    (made,) = eight_bits.of(one(tmp_path))
    assert made.pays and made.line.startswith("1.25x fp16 at batch 8")
    assert made.facts == ("2 products in 8 bits", "calibrated on 512 images of digits (mse, 1 files skipped)")
    assert [row[-1] for row in made.candidates.rows] == [
        "to compare with",
        "built",
        "refused by the compiler: no such tactic",
    ]
    assert made.candidates.rows[1][1:6] == ("180", "100", "40", "5", "6 of 6")
    assert made.search is None and made.left is None


@pytest.mark.parametrize("gain", [0.92, 1.0])
def test_eight_bits_that_gain_nothing_are_called_that(tmp_path, gain):
    (made,) = eight_bits.of(one(tmp_path, against_base=AGAINST | {"gain": gain}))
    assert not made.pays and made.line.startswith("not faster") and "PRECISION=fp16" in made.line


def test_the_search_for_a_budget_is_shown_block_by_block(tmp_path):
    search = [{"left": [], "drop": 3.0, "relative_max": 0.2, "saved_us": 50.0},
              {"left": ["blocks.2", "blocks.0"], "drop": 0.5, "relative_max": 0.1,
               "saved_us": 30.0, "own": 1e-3}]  # fmt: skip
    found = AGAINST | {"left": ["blocks.2", "blocks.0"], "goal": "MAX_DROP=0.5", "search": search}
    found["rows"] = found["rows"] | {WITHIN: ROW | {"total_us": 190.0}}
    (made,) = eight_bits.of(one(tmp_path, against_base=found, left_in_16_bit={"blocks.0/MatMul": "MAX_DROP"}))
    assert made.search.rows == [
        ("0", "", "3.00", "2.0e-01", "50", ""),
        ("2", "blocks.0", "0.50", "1.0e-01", "30", "1.0e-03"),
    ]
    assert [row[-1] for row in made.candidates.rows if row[0] == WITHIN] == ["built"]
    assert made.left.rows == [("blocks.0/MatMul", "MAX_DROP")]


def test_a_bundle_of_sixteen_bits_has_nothing_to_show(tmp_path):
    assert eight_bits.of(one(tmp_path, against_base=None, calibration=None)) == []


def test_the_page_has_a_section_on_eight_bits_only_where_there_are_any(tmp_path):
    built = one(tmp_path)
    words = inputs.Words()
    assert "1.25x fp16 at batch 8" in page.render(tmp_path, "toy", built, [], words)
    object.__setattr__(built[0], "manifest", built[0].manifest | {"against_base": None})
    assert "Eight bits" not in page.render(tmp_path, "toy", built, [], words)
