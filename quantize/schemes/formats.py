"""Number formats as values: what a stored number can be. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A number format, e.g. INT8: 8 bits, -128 to 127, held by torch in int8.

    `qmax` is the largest magnitude that a scale maps to: scale = amax / qmax. `storage` is torch's and numpy's (or ml_dtypes')
    name of what holds it in memory; `name` is how it is called in a graph and in `Device.tflops`.
    """

    name: str
    bits: int
    qmin: float
    qmax: float
    storage: str
    is_float: bool = False


FP32 = Format("fp32", 32, -3.4028234663852886e38, 3.4028234663852886e38, "float32", is_float=True)
BF16 = Format("bf16", 16, -3.3895313892515355e38, 3.3895313892515355e38, "bfloat16", is_float=True)
FP16 = Format("fp16", 16, -65504.0, 65504.0, "float16", is_float=True)
FP8 = Format("fp8", 8, -448.0, 448.0, "float8_e4m3fn", is_float=True)  # E4M3, which has no infinities
INT8 = Format("int8", 8, -128.0, 127.0, "int8")  # ONNX's own range, so that clipping agrees with it
INT4 = Format("int4", 4, -8.0, 7.0, "int8")  # torch has no 4-bit type; the file does
INDEX6 = Format("index6", 6, 0.0, 63.0, "uint8")  # into a palette
INDEX4 = Format("index4", 4, 0.0, 15.0, "uint8")
