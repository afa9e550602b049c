"""FP32 everywhere, and no TF32: the engine computes what the torch module computes."""

from exporter.types import Precision

PRECISION = Precision("fp32", "float32", "FP32, no tensor cores below TF32 are used")
