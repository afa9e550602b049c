"""INT8 products in a BF16 graph: as INT8, where FP16's range is too small for what lies between the products."""

from exporter.precisions.bf16 import PRECISION as BF16
from exporter.types import Precision

PRECISION = Precision(
    "int8-bf16",
    "bfloat16",
    "INT8 tensor cores, BF16 around them",
    refused=BF16.refused,
    keep_fp32=BF16.keep_fp32,
    quantized="int8",
)
