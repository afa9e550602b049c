"""BF16: FP32's 8 exponent bits and 7 mantissa bits; nothing overflows, every value has 2-3 decimal digits.

The same operators stay in FP32 as for FP16, here because a running sum in 7 bits stops growing.
"""

from exporter.precisions.fp16 import SUMS_AND_POWERS
from exporter.types import Precision

PRECISION = Precision(
    "bf16",
    "bfloat16",
    "BF16 tensor cores, FP32 accumulation",
    refused={"sm75": "BF16 tensor cores begin with sm80 (Ampere)"},
    keep_fp32=SUMS_AND_POWERS,
)
