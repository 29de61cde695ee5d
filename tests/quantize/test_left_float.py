"""A convolution whose bias does not fit 32-bit integers beside its small weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sprint_export.nouns.recipe import FLOAT, Decision, QuantizedLayer
from sprint_export.nouns.student import Component
from sprint_export.quantize.left_float import LARGE_BIAS, correct_decisions, describe_left, find_reason
from sprint_export.weights import constant


def make_convolution(small: float) -> Component:
    """A convolution with a bias of 0.3; its first row has weights of this size."""
    module = nn.Sequential(nn.Conv2d(16, 16, 3, device="meta"))
    weight = torch.full((16, 16, 3, 3), 0.05)
    weight[0] = small
    return Component("vae_decoder", module, {"0.weight": constant(weight), "0.bias": constant(torch.full((16,), 0.3))})


@pytest.mark.parametrize(("small", "reason"), [(1e-3, None), (0.0, None), (1e-9, LARGE_BIAS)])
def test_a_bias_that_32_bits_cannot_hold_leaves_its_convolution_float(small: float, reason: str | None) -> None:
    component = make_convolution(small)
    assert find_reason(component, "0", QuantizedLayer("w8a8", 1.0, 0, "fp32", output_amax=2.0)) == reason
    assert find_reason(component, "0", QuantizedLayer("w8a8", 1.0, 0, "fp32")) is None, (
        "where the kernel gives floats it adds floats"
    )


def test_what_was_left_is_named_with_its_reason() -> None:
    decisions = [Decision(f"vae_decoder.{name}", "int8", "*", "all", 10, False) for name in "ab"]
    first, second = correct_decisions(decisions, "vae_decoder", {"a": LARGE_BIAS})
    assert (first.precision, first.reason, first.is_refused) == (FLOAT, LARGE_BIAS, True)
    assert second == decisions[1]
    assert describe_left({"a": LARGE_BIAS, "c": LARGE_BIAS}) == [f"float: {LARGE_BIAS} (2): a, c"]
