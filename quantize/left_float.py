"""Layers that a recipe rounds and that stay float all the same, because a number they need cannot be held; each is named.

    input    its scale is below the normal numbers of its type, which half precision reaches at inputs of 0.008
    bias     where a kernel gives 8 bits it adds the bias as an integer of 32 bits, b / (input scale x weight scale): beside a row
             of very small weights that is too large, and what is added is something else (seen in ONNX Runtime's QLinearConv)
Weights need no such rule: their scales reach as far as they do (quantize/scales.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from sprint_export.nouns.recipe import FLOAT, Decision, QuantizedLayer
from sprint_export.nouns.student import Component
from sprint_export.quantize.scales import holds_input, input_scale, split_weight, weight_scale

SMALL_INPUT = "reads values whose scale half precision cannot hold"
LARGE_BIAS = "adds a bias that 32-bit integers cannot hold in units of its weights"
LARGEST_INTEGER = 2.0**30  # half of what 32 bits hold is left to the products


def find_reason(component: Component, name: str, layer: QuantizedLayer) -> str | None:
    """Why a layer cannot be rounded like this, or None."""
    if layer.input_amax is not None and not holds_input(layer.input_amax, layer):
        return SMALL_INPUT
    bias = component.weights.get(f"{name}.bias")
    if layer.output_amax is None or bias is None:
        return None
    weight = split_weight(component.weights[f"{name}.weight"].load(), layer)[0]
    units = input_scale(layer).double() * weight_scale(weight, layer).double()
    return LARGE_BIAS if bool((bias.load().double().abs() > LARGEST_INTEGER * units).any()) else None


def correct_decisions(decisions: Iterable[Decision], role: str, left: Mapping[str, str]) -> tuple[Decision, ...]:
    """The decisions as they came out, where `left` gives the reasons by layer."""
    return tuple(
        dataclasses.replace(decision, precision=FLOAT, reason=left[name], is_refused=True) if name in left else decision
        for decision in decisions
        for name in (decision.layer.removeprefix(f"{role}."),)
    )


def describe_left(left: Mapping[str, str]) -> list[str]:
    """A note for each reason, with the layers it holds for."""
    layers = {reason: [name for name, other in left.items() if other == reason] for reason in left.values()}
    return [f"float: {reason} ({len(names)}): {', '.join(names)}" for reason, names in layers.items()]
