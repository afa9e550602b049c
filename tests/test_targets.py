import pytest

from exporter import targets
from exporter.backends import tensorrt
from exporter.errors import UsageError
from exporter.registry import precision


def test_targets_are_sorted_and_each_once():
    got = targets.parse("sm120, SM80,sm120,sm75", "tensorrt-rtx", precision("fp16"))
    assert got == ("sm75", "sm80", "sm120")


@pytest.mark.parametrize(
    "device, target, says",
    [
        (None, None, "there is none"),
        ("sm90", "sm80", "this machine only"),
        ("sm75", None, "cannot run bf16"),
    ],
)
def test_tensorrt_compiles_for_the_gpu_of_the_machine(device, target, says, monkeypatch):
    monkeypatch.setattr(tensorrt, "cuda_device", lambda: (device, "no CUDA driver"))
    with pytest.raises(UsageError, match=says):
        targets.parse(target, "tensorrt", precision("bf16"))


def test_tensorrt_takes_the_devices_own_target(monkeypatch):
    monkeypatch.setattr(tensorrt, "cuda_device", lambda: ("sm90", ""))
    for text in (None, "sm90", "native"):
        assert targets.parse(text, "tensorrt", precision("fp16")) == ("sm90",)
