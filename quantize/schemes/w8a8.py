"""Symmetric INT8 weights and activations: scale = amax / 127, zero point 0."""

from sprint_export.quantize.schemes.formats import INT8
from sprint_export.quantize.schemes.gates import EIGHT_BITS
from sprint_export.quantize.schemes.scheme import Inputs, Scheme

SCHEME = Scheme(
    name="w8a8",
    meaning="8-bit integer weights and activations of Linear and Conv (Apple: faster since A17 Pro and M4)",
    weights=INT8,
    inputs=Inputs(INT8),
    gates=EIGHT_BITS,
)
