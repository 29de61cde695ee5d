"""Palettes: every weight becomes an index into a short table of values, fitted to the weights themselves.

    table = argmin over 2^bits values of sum (w - nearest(table, w))^2          w' = table[index]
One table serves `group` rows (output channels), or the whole weight. The fit is Lloyd's algorithm in one dimension, on sorted
values with prefix sums, so a step costs one binary search a table entry and not one distance a weight; all groups of a weight
go together. It starts from the density^(1/3) rule, which is optimal for many levels (Panter and Dite, 1951).
Not covered: several values an index (vector palettes), per-channel scales beside the table.
"""

from __future__ import annotations

import torch

from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.quantize.scales import round_to_graph
from sprint_export.quantize.schemes.scheme import load_scheme

STEPS = 30  # Lloyd's steps; the error has settled to within a percent of the exact optimum (tests/quantize/test_palettes.py)
BATCH = 1 << 24  # weight values fitted at a time: bounds the memory for prefix sums in float64


def palettize(weight: torch.Tensor, layer: QuantizedLayer) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices uint8 [out, in, ...] and tables float32 [groups, 2^bits] of a weight, tables in values of the graph's type."""
    rows = weight.shape[0]
    size = layer.group if layer.group and rows % layer.group == 0 else rows
    grouped = weight.float().reshape(rows // size, -1)
    count = max(1, BATCH // grouped.shape[1])
    bits = load_scheme(layer.scheme).weights.bits
    fitted = [_fit(part, bits, layer.scale_dtype) for part in grouped.split(count)]
    indices, tables = (torch.cat(parts) for parts in zip(*fitted, strict=True))
    return indices.reshape(weight.shape), tables


def look_up(indices: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    """w' float32 [out, in, ...]: the inverse of `palettize`, up to rounding."""
    grouped = indices.reshape(tables.shape[0], -1).long()
    return tables.gather(1, grouped).reshape(indices.shape)


def _fit(values: torch.Tensor, bits: int, dtype: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices and tables of groups [G, n]."""
    ordered = values.sort(dim=1).values
    sums = torch.nn.functional.pad(ordered.double().cumsum(1), (1, 0))  # [G, n + 1]
    table = _start(ordered, 2**bits)
    for _ in range(STEPS):
        table = _improve(ordered, sums, table)
    table = round_to_graph(table, dtype).sort(dim=1).values
    indices = torch.searchsorted(_borders(table), values)  # [G, n]
    return indices.to(torch.uint8), table


def _start(ordered: torch.Tensor, levels: int) -> torch.Tensor:
    """Levels spaced by the cube root of the density [G, levels], read off a grid of quantiles."""
    grid = torch.linspace(0, ordered.shape[1] - 1, 8 * levels + 1).round().long()
    knots = ordered[:, grid].contiguous()
    widths = (knots[:, 1:] - knots[:, :-1]).clamp_min(1e-12)
    mass = (widths ** (2 / 3)).cumsum(1)  # a cell of equal probability has density 1 / width; width * density^(1/3)
    wanted = (torch.arange(levels) + 0.5) / levels * mass[:, -1:]
    cell = torch.searchsorted(mass.contiguous(), wanted.contiguous()).clamp_max(widths.shape[1] - 1)
    return ((knots[:, 1:] + knots[:, :-1]) / 2).gather(1, cell)


def _improve(ordered: torch.Tensor, sums: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Every level moves to the mean of the values nearest to it; one without any stays."""
    inner = torch.searchsorted(ordered, _borders(table).float())
    ends = torch.nn.functional.pad(inner, (0, 1), value=ordered.shape[1])
    starts = torch.nn.functional.pad(inner, (1, 0))
    count = ends - starts
    means = (sums.gather(1, ends) - sums.gather(1, starts)) / count.clamp_min(1)
    return torch.where(count > 0, means.float(), table)


def _borders(table: torch.Tensor) -> torch.Tensor:
    return ((table[:, 1:] + table[:, :-1]) / 2).contiguous()
