"""IEEE single precision."""

from sprint_export.nouns.recipe import Precision

PRECISION = Precision(
    name="fp32",
    bits=32,
    is_float=True,
    qmin=-3.4028234663852886e38,
    qmax=3.4028234663852886e38,
    storage="float32",
    is_quantized=False,
    meaning="float weights and arithmetic",
)
