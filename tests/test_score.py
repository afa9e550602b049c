import pytest

from exporter import roofline, score
from exporter.kernels import Kernel, Tensor


def kernel(name, elements, nodes=(), flops=0):
    tensor = Tensor("t", (elements,), "Half")
    return Kernel(name, "kgen", "pointwise", (tensor,), (), (), tuple(nodes), "", flops)


def test_launches_and_floors_add_up():
    kernels = [kernel("a", 1_000_000), kernel("b", 3_000_000)]
    found = score.of(kernels, kernels, [], "sm80")
    floor = 2 * 4_000_000 / roofline.CHIPS["sm80"].memory / 1e3  # bytes over GB/s, in microseconds
    assert found.kernels == 2 and found.bytes_moved == 8_000_000
    assert found.floor_us == pytest.approx(floor, abs=0.05)
    assert found.total_us == pytest.approx(2 * score.LAUNCH_US + floor, abs=0.05)


def test_kernels_that_only_a_free_batch_needs_cost_what_the_others_do():
    twin = [kernel("a", 100_000_000), kernel("b", 100_000_000)]
    engine = [*twin, kernel("copy", 1), kernel("copy", 1)]
    plain, free = score.of(twin, twin, [], "sm80"), score.of(engine, twin, [], "sm80")
    assert free.floor_us == pytest.approx(2 * plain.floor_us, abs=0.2)
    assert free.total_us > plain.total_us


def test_fused_attention_is_counted_of_what_is_due():
    fused = Kernel("_gemm_mha_v2", "", "attention", (), (), (), ("a/Softmax_1",), "")
    found = score.of([fused], [fused], ["a/Softmax_1", "b/Softmax_2"], "sm80")
    assert (found.fused, found.due) == (1, 2)


def test_streams_that_wait_for_each_other_cost_something():
    kernels = [kernel("a", 1_000_000)]
    alone, waiting = (score.of(kernels, kernels, [], "sm80", synchronisations=n) for n in (0, 10))
    assert waiting.total_us == pytest.approx(alone.total_us + 10 * score.SYNCHRONISE_US, abs=0.11)
    told = score.of(kernels, kernels, [], "sm80", host_numbers=10)
    assert told.total_us == waiting.total_us and (told.host_numbers, told.synchronisations) == (10, 0)
