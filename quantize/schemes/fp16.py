"""IEEE half precision: 10 mantissa bits, largest value 65504."""

from sprint_export.quantize.schemes.formats import FP16
from sprint_export.quantize.schemes.gates import HALF
from sprint_export.quantize.schemes.scheme import Scheme

SCHEME = Scheme(name="fp16", meaning="half-precision weights and arithmetic", weights=FP16, gates=HALF)
