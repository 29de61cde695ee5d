"""4-bit palettes: every weight is one of 16 values; activations stay in the graph's float type."""

from sprint_export.quantize.schemes.formats import INDEX4
from sprint_export.quantize.schemes.gates import FEW_BITS
from sprint_export.quantize.schemes.scheme import Palette

SCHEME = Palette(
    name="p4a16",
    meaning="4-bit palettes for the weights of Linear, Conv and Embedding; activations stay float",
    weights=INDEX4,
    gates=FEW_BITS,
)
