"""INT8 weights and activations for Core ML, where `int8` means weights alone: what its Neural Engine multiplies as integers."""

from sprint_export.nouns.recipe import Precision

PRECISION = Precision(
    name="w8a8",
    bits=8,
    is_float=False,
    qmin=-128.0,
    qmax=127.0,
    storage="int8",
    is_quantized=True,
    meaning="8-bit integer weights and activations (Core ML's name for it; faster since A17 Pro and M4)",
)
