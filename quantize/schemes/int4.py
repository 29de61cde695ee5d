"""Symmetric INT4 weights in blocks (W4A16): scale = amax / 7 for every 32 input values, 128 for TensorRT; GPUs unpack it."""

from sprint_export.nouns.recipe import Precision

PRECISION = Precision(
    name="int4",
    bits=4,
    is_float=False,
    qmin=-8.0,
    qmax=7.0,
    storage="int8",  # torch has no 4-bit type; the file does
    is_quantized=True,
    meaning="4-bit integer weights with a scale for every 32 to 128 input values; activations stay float",
)
