"""Arrays by DLPack, in the worker's types; a consumer that names its capsules otherwise."""

import ctypes
import sys

import ml_dtypes
import numpy as np
import pytest
import torch

from exporter import exchange

ROWS = np.random.default_rng(0).standard_normal((2, 5), np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_what_is_given_is_what_torch_takes(dtype):
    found = torch.from_dlpack(exchange.given(ROWS, dtype))
    assert found.dtype == getattr(torch, dtype)
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    assert np.array_equal(found.float().numpy(), ROWS.astype(kind).astype(np.float32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_is_taken_is_fp32(dtype):
    tensor = torch.from_numpy(ROWS).to(dtype)
    found = exchange.taken(tensor)
    assert found.dtype == np.float32 and np.array_equal(found, tensor.float().numpy())


def test_fp32_is_taken_without_a_copy():
    tensor = torch.from_numpy(ROWS.copy())
    assert exchange.taken(tensor).ctypes.data == tensor.data_ptr()


def test_a_view_that_is_read_only_or_not_contiguous_is_given():
    fixed = ROWS.copy()
    fixed.flags.writeable = False
    for rows in (fixed, ROWS[:, ::2], ROWS.T):
        assert np.array_equal(torch.from_dlpack(exchange.given(rows, "float32")).numpy(), rows)


def test_bytes_go_and_come_back():
    given = exchange.text(b"\x00answer\xff")
    assert exchange.raw(given) == b"\x00answer\xff"


def test_a_capsule_under_another_name_goes_in_silence(monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    ctypes.pythonapi.PyCapsule_SetName.argtypes = (ctypes.py_object, ctypes.c_char_p)
    name = b"used_dlpack"
    for owner, complaints in ((exchange.given(ROWS, "float32"), 0), (ROWS.copy(), 1)):
        capsule = owner.__dlpack__()
        assert ctypes.pythonapi.PyCapsule_SetName(capsule, name) == 0
        del capsule
        assert len(said) == complaints  # NumPy's own does complain: when it no longer does, Given is not needed
