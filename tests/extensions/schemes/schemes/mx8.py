"""Like microscaling formats: 8-bit integers, a scale for every 32 neighbouring values, of weights and of what a layer reads."""

from sprint_export.quantize.schemes.formats import INT8
from sprint_export.quantize.schemes.gates import EIGHT_BITS
from sprint_export.quantize.schemes.scheme import Inputs, Scheme

SCHEME = Scheme(
    name="mx8",
    meaning="8-bit integer weights and activations, a scale for every 32 values; activations are measured as they come",
    weights=INT8,
    group=32,
    inputs=Inputs(INT8, is_dynamic=True, block=32),
    gates=EIGHT_BITS,
)
