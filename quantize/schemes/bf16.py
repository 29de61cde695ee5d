"""bfloat16: float32's range with 7 mantissa bits; the students' own storage type."""

from sprint_export.quantize.schemes.formats import BF16
from sprint_export.quantize.schemes.gates import HALF
from sprint_export.quantize.schemes.scheme import Scheme

SCHEME = Scheme(name="bf16", meaning="bfloat16 weights and arithmetic", weights=BF16, gates=HALF)
