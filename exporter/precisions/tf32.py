"""FP32 storage; matrix products round their inputs to TF32 (8 exponent, 10 mantissa bits) and add in FP32."""

from exporter.types import Precision

PRECISION = Precision(
    "tf32",
    "float32",
    "FP32 tensors, matrix products on TF32 tensor cores",
    tf32=True,
    refused={"sm75": "TF32 tensor cores begin with sm80 (Ampere)"},
)
