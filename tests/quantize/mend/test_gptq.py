"""GPTQ answers for a column's error in later ones, and what it gives is a weight that plain rounding leaves as it is."""

from __future__ import annotations

import pytest
import torch

from sprint_export.errors import InputError
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.quantize.mend.edits import pack_codes, restore_codes
from sprint_export.quantize.mend.gptq import fit_weight
from sprint_export.quantize.scales import round_weight, spread_scale


def layer(group: int = 0, dtype: str = "fp32") -> QuantizedLayer:
    return QuantizedLayer("w4a16", None, 0, dtype, group)


def correlated(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Rows whose columns say much the same, as a network's do."""
    random = torch.Generator().manual_seed(seed)
    shared = torch.randn(rows, columns // 8, generator=random) @ torch.randn(columns // 8, columns, generator=random)
    return shared + 0.3 * torch.randn(rows, columns, generator=random)


def error_of(rows: torch.Tensor, weight: torch.Tensor, found: torch.Tensor) -> float:
    """Mean square of what the layer then gives wrong."""
    return float((rows @ (found - weight).t()).square().mean())


@pytest.mark.parametrize("group", [0, 32])
@pytest.mark.parametrize("columns", [64, 160, 320])  # within a block, over its edge, of several
def test_outputs_are_closer_than_with_plain_rounding(columns: int, group: int) -> None:
    rows, held_out = correlated(2500, columns).split((2000, 500))
    weight = torch.randn(48, columns, generator=torch.Generator().manual_seed(1))
    codes, scale = fit_weight(weight.clone(), rows.t() @ rows, layer(group))
    fitted = codes.float() * spread_scale(scale, weight)
    plain, ours = (error_of(rows, weight, w) for w in (round_weight(weight, layer(group)), fitted))
    print(f"{columns} columns in groups of {group}: {ours / plain:.3f} of plain rounding's squared error, at most 0.35")
    assert ours <= 0.35 * plain
    assert error_of(held_out, weight, fitted) < error_of(held_out, weight, round_weight(weight, layer(group)))
    assert not torch.equal(codes, (weight / spread_scale(scale, weight)).round().clamp(-7, 7).to(torch.int8))


def test_columns_that_say_nothing_of_each_other_are_rounded_plainly() -> None:
    """H is diagonal: nothing can be made good elsewhere."""
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(2))
    codes, scale = fit_weight(weight.clone(), torch.diag(torch.linspace(1, 3, 64)), layer(32))
    assert torch.equal(codes, (weight / spread_scale(scale, weight)).round().clamp(-7, 7).to(torch.int8))


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("group", [0, 16])
def test_rounding_a_fitted_weight_changes_nothing(group: int, dtype: str) -> None:
    """Scales are found again, because each one's largest value kept the largest code."""
    rows, weight = correlated(400, 96), torch.randn(24, 96, generator=torch.Generator().manual_seed(3))
    codes, scale = fit_weight(weight, rows.t() @ rows, layer(group, dtype))
    fitted = restore_codes(pack_codes(codes), scale.reshape(24, -1), (24, 96))
    assert (codes.unflatten(1, (-1, group or 96)).abs().amax(2) == 7).all()
    torch.testing.assert_close(round_weight(fitted, layer(group, dtype)), fitted, rtol=1e-6, atol=0)


def test_what_a_layer_never_read_is_rounded_plainly() -> None:
    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(4))
    codes, scale = fit_weight(weight.clone(), torch.zeros(32, 32), layer())
    assert torch.equal(codes, (weight / spread_scale(scale, weight)).round().to(torch.int8))


def test_inputs_that_are_all_alike_have_a_factor() -> None:
    """One direction a million times as large as the damping."""
    rows, weight = torch.full((100, 512), 1e4), torch.randn(8, 512, generator=torch.Generator().manual_seed(5))
    codes, scale = fit_weight(weight.clone(), rows.t() @ rows, layer())
    fitted = codes.float() * scale[:, None]
    assert error_of(rows, weight, fitted) < 0.01 * error_of(rows, weight, round_weight(weight, layer()))


def test_what_is_no_hessian_is_refused() -> None:
    with pytest.raises(InputError, match="of a layer's inputs has no factor; they are damaged or nearly constant"):
        fit_weight(torch.ones(4, 8), -torch.eye(8), layer())


@pytest.mark.parametrize("columns", [6, 7])
def test_codes_are_packed_two_a_byte(columns: int) -> None:
    codes = torch.arange(3 * columns).remainder(16).sub(8).to(torch.int8).reshape(3, columns)
    packed = pack_codes(codes)
    assert packed.dtype == torch.uint8
    assert packed.shape == (3, (columns + 1) // 2)
    assert torch.equal(restore_codes(packed, torch.full((3, 1), 0.5), (3, columns)), codes.float() * 0.5)
