"""IEEE single precision."""

from sprint_export.quantize.schemes.formats import FP32
from sprint_export.quantize.schemes.gates import FULL
from sprint_export.quantize.schemes.scheme import Scheme

SCHEME = Scheme(name="fp32", meaning="float weights and arithmetic", weights=FP32, gates=FULL)
