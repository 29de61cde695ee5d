"""Symmetric INT4 weights in blocks: scale = amax / 7 for as many input values as the target says; kernels unpack them."""

from sprint_export.quantize.schemes.formats import INT4
from sprint_export.quantize.schemes.gates import FEW_BITS
from sprint_export.quantize.schemes.scheme import Scheme

SCHEME = Scheme(
    name="w4a16",
    meaning="4-bit integer weights with a scale for every 32 to 128 input values; activations stay float",
    weights=INT4,
    gates=FEW_BITS,
)
