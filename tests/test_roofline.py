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


def mixed(activation, weight, flops=0, kind="Half"):
    """A product: so many elements in and as many out, and weights."""
    tensors = [(Tensor(name, (n,), kind),) for name, n in (("x", activation), ("y", activation), ("w", weight))]
    return Kernel("k", "gemm", "matmul", tensors[0], tensors[1], tensors[2], (), "", flops)


@pytest.mark.parametrize("made, bound", [
    (kernel(10_000_000, 1), "memory"),
    (kernel(1, 10**10), "tensor core"),
    (kernel(1, 10**10, "Float"), "FP32 units"),
    (kernel(1000, 1000), "launch"),
])  # fmt: skip
def test_a_kernel_says_what_it_is_bound_by(made, bound):
    assert roofline.limits(made, A100).bound == bound


def test_tf32_runs_fp32_products_on_tensor_cores():
    assert roofline.limits(kernel(1, 10**10, "Float"), A100, tf32=True).unit == "tensor core"


def test_what_the_cache_holds_is_free_and_the_rest_is_not():
    small = [mixed(1_000_000, 1_000_000)] * 3  # 4 MB of activations at a time, 6 MB of weights: the A100 has 40 MB
    assert roofline.resident(small, A100) == 0
    heavy = [mixed(1_000_000, 20_000_000)] * 3  # 120 MB of weights: they come from memory, activations do not
    assert roofline.resident(heavy, A100) == pytest.approx(3 * 40e6 / 2039e9 * 1e6)
    wide = [mixed(50_000_000, 1)]  # 200 MB of activations
    assert roofline.resident(wide, A100) == pytest.approx(roofline.microseconds(wide, A100), rel=1e-6)
    busy = [mixed(1, 1, flops=312 * 10**6)]
    assert roofline.resident(busy, A100) == pytest.approx(1.0)


def test_the_bounds_are_in_order():
    kernels = [mixed(10_000, 1_000_000, 10**9), mixed(30_000_000, 100, 10**6), mixed(1, 1)]
    for chip in roofline.CHIPS.values():
        low, middle = roofline.resident(kernels, chip), roofline.microseconds(kernels, chip)
        assert low <= middle
        assert roofline.launched(kernels, chip) == pytest.approx(middle + 3 * roofline.LAUNCH_US)
