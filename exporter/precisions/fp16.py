"""FP16: 5 exponent and 10 mantissa bits, largest finite value 65504.

Sums over many elements and powers stay in FP32, because their intermediate values leave FP16's range long before
their results do: a LayerNorm that an exporter decomposed into Pow, ReduceMean and Sqrt overflows at activations
of 256. LayerNormalization itself normalises in FP32 (``stash_type`` 1), Softmax subtracts the maximum first.
"""

from exporter.types import Precision

SUMS_AND_POWERS = frozenset(
    "ReduceMean ReduceSum ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare ReduceProd CumSum "
    "Pow Exp Log Sqrt Reciprocal Softplus Sin Cos Range InstanceNormalization GroupNormalization "
    "LpNormalization BatchNormalization GlobalAveragePool".split()
)

PRECISION = Precision("fp16", "float16", "FP16 tensor cores, FP32 accumulation", keep_fp32=SUMS_AND_POWERS)
