"""FP8 E4M3 weights and activations: scale = amax / 448; needs compute capability 8.9 on NVIDIA."""

from sprint_export.quantize.schemes.formats import FP8
from sprint_export.quantize.schemes.gates import EIGHT_BITS
from sprint_export.quantize.schemes.scheme import Inputs, Scheme

SCHEME = Scheme(
    name="fp8",
    meaning="8-bit float weights and activations of Linear and Conv",
    weights=FP8,
    inputs=Inputs(FP8),
    gates=EIGHT_BITS,
)
