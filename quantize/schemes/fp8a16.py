"""FP8 E4M3 weights, one scale a row; activations stay in the graph's float type."""

from sprint_export.quantize.schemes.formats import FP8
from sprint_export.quantize.schemes.gates import EIGHT_BITS
from sprint_export.quantize.schemes.scheme import Scheme

SCHEME = Scheme(
    name="fp8a16",
    meaning="8-bit float weights of Linear, Conv and Embedding; activations stay float",
    weights=FP8,
    gates=EIGHT_BITS,
)
