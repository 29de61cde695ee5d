"""Precisions, and the rules that give them to layers: frozen dataclasses, standard library only."""

from __future__ import annotations

from dataclasses import dataclass

FLOAT = "float"  # what a rule gives a layer that it leaves alone
FLOAT_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Precision:
    """A numeric format as a value, e.g. int8: bits 8, qmin -128, qmax 127, storage "int8".

    `qmax` is the largest magnitude a scale maps to: scale = amax / qmax. `storage` is numpy's (or ml_dtypes') name. A palette
    has no scale: its values are indices 0..qmax into a table of the weight's own values.
    """

    name: str
    bits: int
    is_float: bool
    qmin: float
    qmax: float
    storage: str
    is_quantized: bool
    meaning: str
    is_palette: bool = False


@dataclass(frozen=True)
class QuantizedLayer:
    """How one Linear, Conv2d or Embedding is quantized.

    `input_amax` is the largest magnitude its input took over the calibration prompts; None leaves the input in float and
    compresses the weight alone. `weight_axis` is the output-channel axis of the weight scales (0, as torch stores weights), or
    None for one scale per tensor. `group` narrows a scale to that many input values of a row, or a palette to that many
    rows; 0 means all. Scales have the digits of `scale_dtype` (quantize/scales.py). `output_amax` is the largest magnitude of its
    output where the target's kernel rounds that too; None where it does not.
    """

    precision: Precision
    input_amax: float | None
    weight_axis: int | None
    scale_dtype: str
    group: int = 0
    output_amax: float | None = None


@dataclass(frozen=True)
class Decision:
    """One layer's fate: `precision` is a precision's name or "float"; `rule` the pattern it falls under.

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
    """Layers whose `role.module.name` matches the shell wildcard get `precision`; "float" leaves them alone."""

    pattern: str
    precision: str
    reason: str = ""


@dataclass(frozen=True)
class Recipe:
    """Ordered rules, first match wins, with a catch-all last; what calibrates it, and how ranges are chosen and errors mended.

    `observer` chooses an activation's range from what was seen; `smooth` in (0, 1) moves outliers from activations into weights
    (SmoothQuant's alpha; 0 leaves them); `correct_bias` takes the mean of the rounding error out of the bias; `gptq` fits 4-bit
    weights to what their layers read. `meaning` is one line for people.
    """

    name: str
    rules: tuple[Rule, ...]
    prompts: tuple[str, ...] = ()
    seed: int = 0
    observer: str = "max"
    smooth: float = 0.0
    correct_bias: bool = False
    gptq: bool = False
    meaning: str = ""
