"""Palettes against the exact one-dimensional k-means that coremltools ships, and what a table may hold."""

from __future__ import annotations

import pytest
import torch

from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.quantize.palettes import look_up, palettize
from sprint_export.quantize.scales import round_weight


def palette_layer(bits: int, group: int = 0, dtype: str = "fp16") -> QuantizedLayer:
    return QuantizedLayer(f"p{bits}a16", None, 0, dtype, group)


def some_weight(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(shape[0], *(1,) * (len(shape) - 1), generator=generator)
    return torch.randn(shape, generator=generator) * (0.1 + rows)


@pytest.mark.parametrize("group", [0, 16])
@pytest.mark.parametrize("bits", [4, 6])
def test_the_error_is_near_the_optimum(bits: int, group: int) -> None:
    kmeans1d = pytest.importorskip("coremltools._deps").kmeans1d
    weight, best = some_weight(64, 96), 0.0
    for rows in weight.split(group or 64):
        labels, centres = kmeans1d.cluster(rows.flatten().numpy(), 2**bits)
        best += float(((torch.tensor(centres)[torch.tensor(labels)] - rows.flatten()) ** 2).sum())
    found = float(((look_up(*palettize(weight, palette_layer(bits, group))) - weight) ** 2).sum())
    assert best * 0.999 <= found <= best * 1.2, f"{found / best:.3f} of the exact optimum"


@pytest.mark.parametrize(("shape", "group", "tables"), [((32, 24), 16, 2), ((32, 8, 3, 3), 0, 1), ((20, 8), 16, 1)])
def test_shapes_of_indices_and_tables(shape: tuple[int, ...], group: int, tables: int) -> None:
    indices, found = palettize(some_weight(*shape), palette_layer(4, group))
    assert (indices.shape, indices.dtype, found.shape) == (shape, torch.uint8, (tables, 16))
    assert int(indices.max()) <= 15


def test_every_weight_takes_the_nearest_value_of_its_table() -> None:
    weight = some_weight(32, 24)
    indices, tables = palettize(weight, palette_layer(4, 16))
    for rows, chosen, table in zip(weight.split(16), indices.split(16), tables, strict=True):
        distance = (rows[..., None] - table).abs()
        torch.testing.assert_close(distance.gather(-1, chosen.long()[..., None])[..., 0], distance.amin(-1), rtol=0, atol=0)


def test_tables_hold_values_of_the_graphs_type() -> None:
    _, tables = palettize(some_weight(32, 24) * 0.01, palette_layer(6))
    assert torch.equal(tables, tables.half().float())
    assert torch.equal(tables, tables.sort(dim=1).values)


@pytest.mark.parametrize("weight", [torch.zeros(16, 16), torch.full((16, 16), 3.0)], ids=["zero", "constant"])
def test_a_weight_of_few_values_is_kept(weight: torch.Tensor) -> None:
    assert torch.equal(round_weight(weight, palette_layer(4)), weight)


def test_more_bits_and_smaller_groups_round_less() -> None:
    weight = some_weight(64, 96)

    def error(bits: int, group: int) -> float:
        return float((round_weight(weight, palette_layer(bits, group)) - weight).square().mean())

    assert error(6, 16) < error(6, 0) < error(4, 16) < error(4, 0)
