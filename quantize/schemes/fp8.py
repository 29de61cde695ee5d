"""FP8 E4M3 (float8_e4m3fn): scale = amax / 448, no infinities; needs compute capability 8.9 on NVIDIA."""

from sprint_export.nouns.recipe import Precision

PRECISION = Precision(
    name="fp8",
    bits=8,
    is_float=True,
    qmin=-448.0,
    qmax=448.0,
    storage="float8_e4m3fn",
    is_quantized=True,
    meaning="8-bit float weights and activations of Linear and Conv (Core AI: weights only)",
)
