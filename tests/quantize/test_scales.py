"""The arithmetic of a scale against numpy and ml_dtypes, written out by hand."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.quantize.scales import fake_quantize, input_scale, quantize_tensor, round_weight, weight_scale
from sprint_export.quantize.schemes.formats import FP8, INT8, Format

SCHEMES = {INT8: "w8a8", FP8: "fp8"}
NUMPY_TYPES: dict[str, Any] = {"fp32": np.float32, "fp16": np.float16, "bf16": ml_dtypes.bfloat16}


def values(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3


def by_hand(value: np.ndarray, scale: np.ndarray, format: Format) -> np.ndarray:
    """q, in float64 until the last cast."""
    scaled = value.astype(np.float32) / scale.astype(np.float32)
    if format is INT8:
        return np.clip(np.rint(scaled), -128, 127).astype(np.int8)
    return np.clip(scaled, -448, 448).astype(ml_dtypes.float8_e4m3fn)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("format", [INT8, FP8], ids=["int8", "fp8"])
def test_the_input_scale_is_amax_over_qmax_in_the_graphs_type(format: Format, dtype: str) -> None:
    scale = input_scale(QuantizedLayer(SCHEMES[format], 3.7, None, dtype))
    wanted = np.float32(NUMPY_TYPES[dtype](np.float32(3.7) / np.float32(127 if format is INT8 else 448)))
    assert (scale.dtype, scale.ndim) == (torch.float32, 0)
    assert scale.item() == wanted


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("axis", [0, None])
@pytest.mark.parametrize("shape", [(6, 10), (6, 5, 3, 3)])
def test_weight_scales_are_per_output_channel_or_one(shape: tuple[int, ...], axis: int | None, dtype: str) -> None:
    weight = values(*shape)
    scale = weight_scale(weight, QuantizedLayer("w8a8", 1.0, axis, dtype))
    magnitude = np.abs(weight.numpy()).reshape(6, -1)
    amax = magnitude.max() if axis is None else magnitude.max(1)
    np.testing.assert_array_equal(scale.numpy(), (amax / np.float32(127)).astype(NUMPY_TYPES[dtype]).astype(np.float32))
    assert tuple(scale.shape) == (() if axis is None else (6,))


@pytest.mark.parametrize("format", [INT8, FP8], ids=["int8", "fp8"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_quantizing_and_back_is_the_formula(format: Format, per_channel: bool) -> None:
    value = values(6, 5, 3, 3)
    scale = torch.linspace(0.01, 0.06, 6) if per_channel else torch.tensor(0.03)
    wide = scale.numpy().reshape(6, 1, 1, 1) if per_channel else scale.numpy()
    wanted = by_hand(value.numpy(), wide, format)
    stored = quantize_tensor(value, scale, format)
    assert stored.dtype == getattr(torch, format.storage)
    np.testing.assert_array_equal(stored.view(torch.uint8).numpy(), wanted.view(np.uint8))
    np.testing.assert_array_equal(fake_quantize(value, scale, format).numpy(), wanted.astype(np.float32) * wide)


def test_int8_rounds_to_even() -> None:
    found = quantize_tensor(torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5]), torch.tensor(1.0), INT8)
    assert found.tolist() == [0, 2, 2, 0, -2]


def test_fp8_rounds_to_the_nearest_e4m3_value() -> None:
    value = torch.tensor([1.0, 1.06, 1.07, 17.0, 19.0, 2.0**-9, 2.0**-11])
    assert quantize_tensor(value, torch.tensor(1.0), FP8).float().tolist() == [1.0, 1.0, 1.125, 16.0, 20.0, 2.0**-9, 0.0]


@pytest.mark.parametrize(("format", "low", "high"), [(INT8, -128.0, 127.0), (FP8, -448.0, 448.0)], ids=["int8", "fp8"])
def test_what_lies_beyond_is_clipped_and_never_nan(format: Format, low: float, high: float) -> None:
    value = torch.tensor([1e9, -1e9, 465.0, -465.0, float("inf"), float("-inf")])
    found = quantize_tensor(value, torch.tensor(1.0), format).float()
    assert found.tolist() == [high, low] * 3
    plain = value.numpy().astype(ml_dtypes.float8_e4m3fn)
    assert np.isnan(plain.astype(np.float32)).any(), "a plain cast no longer gives NaN; the clip and its comment may go"


@pytest.mark.parametrize("format", [INT8, FP8], ids=["int8", "fp8"])
def test_calibrated_values_are_not_clipped(format: Format) -> None:
    value = values(1000)
    scale = input_scale(QuantizedLayer(SCHEMES[format], value.abs().max().item(), None, "fp32"))
    error = (fake_quantize(value, scale, format) - value).abs().max().item()
    bound = scale.item() * (0.5 if format is INT8 else 16)  # half a step; E4M3's last step is 32 wide
    assert error <= bound * 1.001, f"error {error:.3g}, half a step is {bound:.3g}"


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("format", [INT8, FP8], ids=["int8", "fp8"])
def test_zeros_still_get_a_positive_scale(format: Format, dtype: str) -> None:
    layer = QuantizedLayer(SCHEMES[format], 0.0, 0, dtype)
    for scale in (input_scale(layer), weight_scale(torch.zeros(4, 3), layer)):
        assert (scale > 0).all(), f"{scale}"
        assert torch.equal(fake_quantize(torch.zeros(4, 3), scale, format), torch.zeros(4, 3))


def test_the_values_own_type_is_kept() -> None:
    assert fake_quantize(values(4).bfloat16(), torch.tensor(0.1), INT8).dtype == torch.bfloat16


def test_scales_in_blocks_belong_to_input_values_of_a_row() -> None:
    weight = values(6, 8, 3, 3)
    layer = QuantizedLayer("w4a16", None, 0, "fp32", 4)
    scale = weight_scale(weight, layer)
    magnitude = np.abs(weight.numpy()).reshape(6, 2, -1)  # a block: 4 input channels and their kernels
    np.testing.assert_array_equal(scale.numpy(), magnitude.max(2) / np.float32(7))
    wide = scale.numpy().repeat(4, axis=1)[..., None, None]
    wanted = np.clip(np.rint(weight.numpy() / wide), -8, 7) * wide
    np.testing.assert_array_equal(round_weight(weight, layer).numpy(), wanted)
