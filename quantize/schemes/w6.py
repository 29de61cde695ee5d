"""6-bit palettes: every weight is one of 64 values; activations stay in the graph's float type."""

from sprint_export.nouns.recipe import Precision

PRECISION = Precision(
    name="w6",
    bits=6,
    is_float=False,
    qmin=0.0,
    qmax=63.0,
    storage="uint8",
    is_quantized=True,
    meaning="6-bit palettes for the weights of Linear, Conv and Embedding; activations stay float",
    is_palette=True,
)
