"""Symmetric INT8: scale = amax / 127, zero point 0. The range is ONNX's own, [-128, 127], so that clipping agrees with it."""

from sprint_export.nouns.recipe import Precision

PRECISION = Precision(
    name="int8",
    bits=8,
    is_float=False,
    qmin=-128.0,
    qmax=127.0,
    storage="int8",
    is_quantized=True,
    meaning="8-bit integer weights and activations of Linear and Conv (Core ML and Core AI: weights only)",
)
