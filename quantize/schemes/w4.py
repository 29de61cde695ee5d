"""4-bit palettes: every weight is one of 16 values; activations stay in the graph's float type."""

from sprint_export.nouns.recipe import Precision

PRECISION = Precision(
    name="w4",
    bits=4,
    is_float=False,
    qmin=0.0,
    qmax=15.0,
    storage="uint8",
    is_quantized=True,
    meaning="4-bit palettes for the weights of Linear, Conv and Embedding; activations stay float",
    is_palette=True,
)
