"""FP8 weights by output channel, FP8 activations with a scale a token."""

from sprint_export.quantize.schemes.formats import FP8
from sprint_export.quantize.schemes.gates import EIGHT_BITS
from sprint_export.quantize.schemes.scheme import Inputs, Scheme

SCHEME = Scheme(
    name="tokenfp8",
    meaning="8-bit float weights and activations, a scale for every token",
    weights=FP8,
    inputs=Inputs(FP8, is_dynamic=True),
    gates=EIGHT_BITS,
)
