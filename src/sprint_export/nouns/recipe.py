"""Schemes by name, and the rules that give them to layers: frozen dataclasses, standard library only."""

from __future__ import annotations

from dataclasses import dataclass

FLOAT = "float"  # what a rule gives a layer that it leaves alone
UNPAID = "does not pay"  # how the reason of a rule begins that leaves layers in float because the engine is as fast without
FLOAT_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class QuantizedLayer:
    """How one Linear, Conv2d or Embedding is quantized: a scheme's name (quantize/schemes/), and the layer's numbers.

    `input_amax` is the largest magnitude its input took over the calibration prompts, None where the scheme measures none.
    `weight_axis` is the output-channel axis of the weight scales (0, as torch stores weights), or None for one scale per tensor.
    `group` narrows a scale to that many input values of a row, or a palette to that many rows; 0 means all. Scales have the
    digits of `scale_dtype` (quantize/scales.py). `output_amax` is the largest magnitude of its output where the target's kernel
    rounds that too; None where it does not.
    """

    scheme: str
    input_amax: float | None
    weight_axis: int | None
    scale_dtype: str
    group: int = 0
    output_amax: float | None = None


@dataclass(frozen=True)
class Decision:
    """What a recipe says of one layer: `precision` is a scheme's name or "float"; `rule` the pattern it falls under.

    `reason` is the rule's, or the fact about the layer (`is_refused`) that no rule can change.
    """

    layer: str
    precision: str
    rule: str
    reason: str
    values: int
    is_pointwise: bool
    is_refused: bool = False


@dataclass(frozen=True)
class Rule:
    """Layers whose `role.module.name` matches the wildcard get `precision`: a scheme, or what a target calls one, or "float"."""

    pattern: str
    precision: str
    reason: str = ""


@dataclass(frozen=True)
class Recipe:
    """Ordered rules, first match wins, with a catch-all last; what calibrates it, and how ranges are chosen and errors mended.

    `observer` chooses an activation's range from what was seen; `smooth` in (0, 1) moves outliers from activations into weights
    (SmoothQuant's alpha; 0 leaves them); `correct_bias` takes the mean of the rounding error out of the bias; `gptq` fits 4-bit
    weights to what their layers read. `is_whole` says that it quantizes all that kernels are faster for, or nearly: then the gate
    on the quantized share holds. `meaning` is one line for people.
    """

    name: str
    rules: tuple[Rule, ...]
    prompts: tuple[str, ...] = ()
    seed: int = 0
    observer: str = "max"
    smooth: float = 0.0
    correct_bias: bool = False
    gptq: bool = False
    is_whole: bool = False
    meaning: str = ""
