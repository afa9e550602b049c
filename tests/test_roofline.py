import pytest

from exporter import roofline
from exporter.kernels import Kernel, Tensor

A100 = roofline.CHIPS["sm80"]


def kernel(elements, flops, kind="Half"):
    return Kernel("k", "gemm", "matmul", (Tensor("a", (elements,), kind),), (), (), (), "", flops)


def test_a_kernel_is_bound_by_memory_or_by_arithmetic():
    megabyte = kernel(1_000_000, 1)  # 2 MB of halves at 2039 GB/s
    assert roofline.floor(megabyte, A100) == pytest.approx(2e6 / 2039e9 * 1e6)
    busy = kernel(1, 312 * 10**6)  # 312 MFLOP at 312 TFLOP/s
    assert roofline.floor(busy, A100) == pytest.approx(1.0)
    assert roofline.microseconds([megabyte, busy], A100) == pytest.approx(1.0 + 2e6 / 2039e9 * 1e6)


def test_the_peak_is_that_of_the_type():
    work = 10**9
    half, single = kernel(1, work), kernel(1, work, "Float")
    assert roofline.floor(single, A100) == pytest.approx(roofline.floor(half, A100) * 312 / 19.5)
    assert roofline.floor(single, A100, tf32=True) == pytest.approx(roofline.floor(half, A100) * 2)


def test_every_chip_says_where_its_figures_are_from():
    assert all(chip.source and chip.memory > 0 and chip.half >= chip.fp32 for chip in roofline.CHIPS.values())


@pytest.mark.parametrize("target, chip", [("sm80", "sm80"), ("sm121", "sm120"), ("sm87", "sm86"), ("sm70", "sm75")])
def test_a_target_without_figures_is_weighed_by_the_next_lower_one(target, chip):
    assert roofline.nearest(target) is roofline.CHIPS[chip]


def test_8_bit_products_have_the_peak_of_8_bits():
    chip = roofline.CHIPS["sm89"]
    assert chip.peak("Int8", False) == 242e12 and chip.peak("FP8", False) == 242e12
    assert roofline.CHIPS["sm80"].peak("FP8", False) == roofline.CHIPS["sm80"].peak("Half", False)
