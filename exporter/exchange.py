"""Arrays that change hands by DLPack, without a copy where the type allows it.

NumPy does it for all types but bfloat16, which it has none of: those go through torch, whose import takes seconds and
is left until then.
"""

from __future__ import annotations

import ctypes

import numpy as np

_set_destructor = ctypes.pythonapi.PyCapsule_SetDestructor
_set_destructor.argtypes, _set_destructor.restype = (ctypes.py_object, ctypes.c_void_p), ctypes.c_int


class Given:
    """An array for a consumer that frees it and does not rename its capsule as the standard says.

    Triton's stub calls it ``used_dlpack``, not ``used_dltensor``, and NumPy complains on standard error whenever such a
    capsule goes. Without its destructor it goes in peace; the consumer calls the array's own deleter.
    """

    def __init__(self, rows: np.ndarray):
        self._rows = rows

    def __dlpack__(self, **how):
        capsule = self._rows.__dlpack__()
        _set_destructor(capsule, None)
        return capsule

    def __dlpack_device__(self):
        return self._rows.__dlpack_device__()


def taken(tensor) -> np.ndarray:
    """What exports DLPack, as FP32; a view, valid as long as its owner, where it is FP32 already."""
    try:
        return np.from_dlpack(tensor).astype(np.float32, copy=False)
    except (BufferError, RuntimeError):
        import torch

        return torch.from_dlpack(tensor).float().numpy()


def given(rows: np.ndarray, dtype: str):
    """``rows`` in ``dtype``, contiguous and on the CPU, as something that exports DLPack."""
    if dtype == "bfloat16":
        import torch

        return torch.from_numpy(np.ascontiguousarray(rows)).bfloat16()
    made = np.ascontiguousarray(rows, dtype)
    return Given(made if made.flags.writeable else made.copy())


def raw(tensor) -> bytes:
    """The bytes of a UINT8 tensor that exports DLPack."""
    return np.from_dlpack(tensor).tobytes()


def text(data: bytes):
    """Bytes as a UINT8 array that exports DLPack."""
    return Given(np.frombuffer(bytearray(data), np.uint8))
