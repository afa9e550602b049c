"""INT8 products in an FP16 graph: symmetric, one scale a tensor, columns balanced; sums in INT32.

LayerNorm, GELU, Softmax and the residual sums stay in FP16 (:mod:`exporter.precisions.fp16` says what does not).
"""

from exporter.precisions.fp16 import SUMS_AND_POWERS
from exporter.types import Precision

PRECISION = Precision(
    "int8", "float16", "INT8 tensor cores, FP16 around them", keep_fp32=SUMS_AND_POWERS, quantized="int8"
)
