"""Each observer chooses from a record what its formula chooses from the values themselves."""

from __future__ import annotations

import pytest
import torch

from sprint_export.errors import InputError
from sprint_export.quantize.measure.observers import PERCENTILE, RANGE_BITS, choose_range, round_range
from sprint_export.quantize.measure.records import record_rows
from sprint_export.quantize.scales import fake_quantize
from sprint_export.quantize.schemes.formats import FP8, INT8, Format

BOTH = pytest.mark.parametrize("format", [INT8, FP8], ids=["int8", "fp8"])


def make_values(kind: str) -> torch.Tensor:
    """[4000, 8] values."""
    random = torch.Generator().manual_seed(1)
    values = torch.randn(4000, 8, generator=random)
    if kind == "relu":
        return values.relu()
    if kind == "long tail":
        return values * torch.rand(4000, 8, generator=random).reciprocal().sqrt()
    if kind == "outliers":
        values[:3, 0] *= 200
    return values


KINDS = pytest.mark.parametrize("kind", ["normal", "relu", "long tail", "outliers"])


def measure_error(values: torch.Tensor, amax: float, format: Format) -> float:
    return float((fake_quantize(values, torch.tensor(amax / format.qmax), format) - values).square().mean())


@BOTH
@KINDS
def test_max_is_the_largest_magnitude(kind: str, format: Format) -> None:
    values = make_values(kind)
    assert choose_range(record_rows(values), format, "max") == round_range(values.abs().max().item())


@pytest.mark.parametrize(
    ("amax", "rounded"),
    [(0.0, 0.0), (1.0, 1.0), (1.0 + 1e-6, 1.0), (1.0 - 1e-6, 1.0), (1.009, 1.015625), (3.3143, 3.3125), (1e-30, None)],
)
def test_a_range_keeps_seven_digits(amax: float, rounded: float | None) -> None:
    """What is reached exactly, as a probability of 1, does not lie where a last digit decides."""
    found = round_range(amax)
    assert rounded is None or found == rounded
    assert found == pytest.approx(amax, rel=2.0**-RANGE_BITS)


def test_devices_agree_in_nearly_all_ranges() -> None:
    """Off by 1e-6 in the last digits, one of some ten thousand ranges is another one; unrounded nearly all are."""
    amax = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 10
    noisy = amax * (1 + 1e-6 * torch.randn(amax.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    differ = sum(round_range(a) != round_range(b) for a, b in zip(amax.tolist(), noisy.tolist(), strict=True))
    print(f"{differ} of {len(amax)} ranges differ")
    assert differ <= 8


@KINDS
def test_percentile_is_that_of_the_values(kind: str) -> None:
    values = make_values(kind)
    found = choose_range(record_rows(values), INT8, "percentile")
    wanted = values.abs().flatten().sort().values[int(PERCENTILE * values.numel())].item()
    print(f"percentile {found:.3f}, of the values {wanted:.3f}")
    assert found == pytest.approx(wanted, rel=0.25), "within a bin"


@BOTH
@KINDS
def test_mse_rounds_nearly_as_well_as_the_best_range_there_is(kind: str, format: Format) -> None:
    values = make_values(kind)
    largest = values.abs().max().item()
    found = measure_error(values, choose_range(record_rows(values), format, "mse"), format)
    best = min(measure_error(values, largest * 2 ** (-i / 32), format) for i in range(320))
    at_max = measure_error(values, largest, format)
    print(f"error {found:.3e}, best {best:.3e}, at the whole range {at_max:.3e}")
    assert found <= 1.1 * best
    assert found <= 1.1 * at_max, "rounding the range moves where its values lie between steps"


def test_integers_are_clipped_where_floats_keep_their_range() -> None:
    record = record_rows(make_values("outliers"))
    ratios = {p.name: choose_range(record, p, "mse") / choose_range(record, p, "max") for p in (INT8, FP8)}
    print(ratios)
    assert ratios["int8"] < 0.9
    assert ratios["fp8"] > 0.95


@pytest.mark.parametrize("observer", ["max", "percentile", "mse"])
def test_a_divided_channel_counts_at_its_divided_size(observer: str) -> None:
    """One record serves every smoothing: the range is that of the divided values."""
    values, divisor = make_values("normal"), 2.0 ** torch.arange(-4, 4)
    found = choose_range(record_rows(values * divisor), INT8, observer, divisor)
    wanted = choose_range(record_rows(values), INT8, observer)
    print(f"{observer}: {found:.4f}, of the divided values {wanted:.4f}")
    assert found == pytest.approx(wanted, rel=1e-6 if observer == "max" else 0.13)


def test_an_input_that_was_never_anything_but_zero() -> None:
    record = record_rows(torch.zeros(10, 3))
    assert [choose_range(record, p, observer) for p in (INT8, FP8) for observer in ("max", "percentile", "mse")] == [0.0] * 6


def test_an_unknown_observer_lists_them() -> None:
    with pytest.raises(InputError, match="unknown observer 'entropy'; choose from: max, mse, percentile"):
        choose_range(record_rows(torch.ones(2, 2)), INT8, "entropy")
