"""Symmetric INT8 weights, one scale a row; activations stay in the graph's float type."""

from sprint_export.quantize.schemes.formats import INT8
from sprint_export.quantize.schemes.gates import EIGHT_BITS
from sprint_export.quantize.schemes.scheme import Scheme

SCHEME = Scheme(
    name="w8a16",
    meaning="8-bit integer weights of Linear, Conv and Embedding; activations stay float",
    weights=INT8,
    gates=EIGHT_BITS,
)
