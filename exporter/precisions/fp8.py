"""FP8 products in an FP16 graph: E4M3, 4 exponent and 3 mantissa bits, largest value 448 (arXiv:2209.05433).

Placed as INT8 is. Values keep three bits whatever their size, so an outlier costs the small ones nothing.
"""

from exporter.precisions.fp16 import SUMS_AND_POWERS
from exporter.types import Precision

NONE = "FP8 tensor cores begin with sm89 (Ada)"

PRECISION = Precision(
    "fp8",
    "float16",
    "FP8 E4M3 tensor cores, FP16 around them",
    refused={"sm75": NONE, "sm80": NONE, "sm86": NONE},
    keep_fp32=SUMS_AND_POWERS,
    quantized="float8_e4m3fn",
)
