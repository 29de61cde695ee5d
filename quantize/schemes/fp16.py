"""IEEE half precision: 10 mantissa bits, largest value 65504."""

from sprint_export.nouns.recipe import Precision

PRECISION = Precision(
    name="fp16",
    bits=16,
    is_float=True,
    qmin=-65504.0,
    qmax=65504.0,
    storage="float16",
    is_quantized=False,
    meaning="half-precision weights and arithmetic",
)
