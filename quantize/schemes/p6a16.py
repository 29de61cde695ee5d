"""6-bit palettes: every weight is one of 64 values; activations stay in the graph's float type."""

from sprint_export.quantize.schemes.formats import INDEX6
from sprint_export.quantize.schemes.gates import FEW_BITS
from sprint_export.quantize.schemes.scheme import Palette

SCHEME = Palette(
    name="p6a16",
    meaning="6-bit palettes for the weights of Linear, Conv and Embedding; activations stay float",
    weights=INDEX6,
    gates=FEW_BITS,
)
