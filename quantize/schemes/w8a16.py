"""Symmetric INT8 weights, one scale a row; activations stay in the graph's float type: what `int8` means on Apple targets."""

from sprint_export.nouns.recipe import Precision

PRECISION = Precision(
    name="w8a16",
    bits=8,
    is_float=False,
    qmin=-128.0,
    qmax=127.0,
    storage="int8",
    is_quantized=True,
    meaning="8-bit integer weights of Linear, Conv and Embedding; activations stay float (ONNX and TensorRT)",
)
