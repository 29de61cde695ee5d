"""bfloat16: float32's range with 7 mantissa bits; the students' own storage type."""

from sprint_export.nouns.recipe import Precision

PRECISION = Precision(
    name="bf16",
    bits=16,
    is_float=True,
    qmin=-3.3895313892515355e38,
    qmax=3.3895313892515355e38,
    storage="bfloat16",
    is_quantized=False,
    meaning="bfloat16 weights and arithmetic",
)
