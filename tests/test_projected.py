from dataclasses import replace

import pytest

from exporter import projected, registry
from exporter.chips import CATALOGUE
from exporter.growth import Cost
from exporter.kernels import Kernel, Tensor

A100 = CATALOGUE["a100-80"]
FP16 = registry.precision("fp16")


def product(flops, elements=1):
    return Kernel("k", "gemm", "matmul", (Tensor("x", (elements,), "Half"),), (), (), (), "", flops)


def test_figures_follow_from_the_times():
    found = projected.of_kernels([product(312 * 10**9)], A100, FP16, batch=10, price=2.0)  # one millisecond
    assert found["floor_us"] == pytest.approx(1000) and found["launched_us"] == pytest.approx(1001.5)
    assert found["peak_share"]["floor"] == pytest.approx(1.0)
    assert found["peak_share"]["launched"] == pytest.approx(1 / 1.0015, abs=1e-4)
    assert found["images_per_second"]["floor"] == pytest.approx(10_000)
    assert found["images_per_dollar"]["floor"] == pytest.approx(10_000 * 3600 / 2)
    assert found["bounds"] == {"tensor core": 1}


def test_without_a_price_there_is_no_figure_for_a_dollar():
    assert "images_per_dollar" not in projected.of_kernels([product(10**9)], A100, FP16, 1, None)


def test_a_graphs_bound_is_its_flops_or_its_weights():
    busy = Cost((224, 224), 1, 312 * 10**9, 0, 0, 0, 1)
    assert projected.of_graph(busy, A100, FP16, 1, None)["floor_us"] == pytest.approx(1000)
    heavy = Cost((1, 1), 2_039_000_000 // 2, 1, 0, 0, 0, 1)  # 2039 MB of FP16 weights at 2039 GB/s
    assert projected.of_graph(heavy, A100, FP16, 1, None)["floor_us"] == pytest.approx(1000, rel=1e-3)


@pytest.mark.parametrize("precision, peak, sizes", [
    ("fp32", 19.5, (4, 4)), ("tf32", 156, (4, 4)), ("bf16", 312, (2, 2)), ("int8", 624, (1, 2)),
])  # fmt: skip
def test_a_precision_has_its_peak_and_its_sizes(precision, peak, sizes):
    found = registry.precision(precision)
    assert projected.peak(A100, found) == peak * 1e12 and projected.sizes(found) == sizes


def test_a_faster_chip_is_never_slower():
    faster = replace(A100, memory=2 * A100.memory, half=2 * A100.half)
    kernels = [product(10**10, 1000), product(10, 10**7)]
    slow, fast = (projected.of_kernels(kernels, chip, FP16, 1, None) for chip in (A100, faster))
    assert fast["floor_us"] == pytest.approx(slow["floor_us"] / 2, rel=0.01)
