import pytest

from exporter.chips import CATALOGUE, CHIPS


def test_every_gpu_of_the_catalogue_says_where_its_figures_are_from():
    assert set(CATALOGUE) == {"t4", "a10", "l4", "rtx4090", "a100-40", "a100-80", "h100", "rtx5090", "rtxpro6000"}
    for chip in CATALOGUE.values():
        assert "NVIDIA" in chip.source and chip.capacity > 1 and chip.l2 >= 4
        assert chip.fp32 <= chip.tf32 <= chip.half <= chip.int8


@pytest.mark.parametrize("name", CATALOGUE)
def test_peaks_keep_the_ratios_that_tensor_cores_have(name):
    chip = CATALOGUE[name]
    doubled = 4 if name in ("rtx4090", "rtx5090") else 2  # GeForce: FP16 with FP32 accumulation at half rate
    assert chip.int8 == pytest.approx(doubled * chip.half, rel=0.01)
    assert chip.fp8 is None or chip.fp8 == pytest.approx(2 * chip.half, rel=0.01)
    assert (chip.fp8 is None) == (chip.target in ("sm75", "sm80", "sm86"))


def test_one_chip_stands_for_each_compute_capability():
    assert set(CHIPS) == {chip.target for chip in CATALOGUE.values()}
    assert all(chip.target == target for target, chip in CHIPS.items())
