"""A record counts what was there, in any order of its parts, and survives the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sprint_export.quantize.measure.records import (
    BINS,
    COUNTED_ROWS,
    Record,
    bin_index,
    bin_start,
    load_records,
    merge_records,
    record_rows,
    save_records,
)

Array = npt.NDArray[Any]


def make_rows(rows: int = 300, channels: int = 5, seed: int = 0) -> torch.Tensor:
    """Channels of very different sizes, one of them all zero, none centred."""
    random = torch.Generator().manual_seed(seed)
    sizes = torch.tensor([1e-3, 0.5, 40.0, 3.0, 0.0])[:channels]
    return (torch.randn(rows, channels, generator=random) + 0.3) * sizes


def assert_same(a: Record, b: Record) -> None:
    assert (a.top, a.rows) == (b.top, b.rows)
    assert torch.equal(a.counts, b.counts)
    assert torch.equal(a.amax, b.amax)
    torch.testing.assert_close(a.total, b.total, rtol=1e-6, atol=1e-6 * float(a.amax.max()))  # summed in float32


def test_a_bin_is_a_quarter_of_an_octave() -> None:
    starts = bin_start(bin_index(torch.tensor([1.0, 1.3, 1.5, 1.99, 2.0, 0.126])))
    assert starts.tolist() == [1.0, 1.25, 1.5, 1.75, 2.0, 0.125]
    index = torch.arange(400, 600, dtype=torch.int32)
    assert torch.equal(bin_index(bin_start(index)), index)


def test_counts_range_and_mean_are_those_of_the_rows() -> None:
    rows = make_rows()
    record = record_rows(rows)
    assert record.rows == 300
    assert torch.equal(record.amax, rows.abs().amax(0))
    torch.testing.assert_close(record.mean, rows.double().mean(0))
    assert record.counts.sum(1).tolist() == [300] * 5
    assert record.counts[4, 0] == 300, "zeros lie in the lowest bin"
    edges = bin_start(torch.arange(record.top - BINS, record.top + 1, dtype=torch.int32))
    for channel in (1, 2, 3):
        wanted = torch.histogram(rows[:, channel].abs(), edges.float()).hist
        assert record.counts[channel, 1:].tolist() == wanted[1:].int().tolist()
    assert edges[-2] <= rows.abs().max() < edges[-1], "the window ends where the values do"


def lay_out(rows: torch.Tensor, layout: str) -> torch.Tensor:
    """[2 n, C] as a Linear reads it, [2, n, C], or as a convolution reads it, [2, C, n], seen as [2, n, C]."""
    pair = rows.reshape(2, -1, rows.shape[1])
    return pair if layout == "rows" else pair.transpose(1, 2).contiguous().transpose(1, 2)


def find_bins(magnitudes: Array) -> Array:
    """Four bins an octave, the first one at 2^-127."""
    octave = np.floor(np.log2(magnitudes))  # of Gaussian values none is zero
    bins: Array = (4 * (octave + 127) + np.floor(4 * (magnitudes / 2**octave - 1))).astype(int)
    return bins


@pytest.mark.parametrize("layout", ["rows", "channels first"])
@pytest.mark.parametrize(("rows", "channels", "step"), [(300, 5, 1), (2 * COUNTED_ROWS, 5, 3), (1200, 2048, 3)])
def test_a_record_is_what_numpy_finds_in_any_layout(layout: str, rows: int, channels: int, step: int) -> None:
    random = torch.Generator().manual_seed(rows)
    values = torch.randn(rows, channels, generator=random) * torch.rand(channels, generator=random) * 40
    record = record_rows(lay_out(values, layout))
    wide = values.numpy().astype(np.float64)
    assert record.amax.numpy().astype(np.float64) == pytest.approx(np.abs(wide).max(0), rel=0, abs=0)
    deviation = np.abs(record.total.numpy() - wide.sum(0)).max() / np.abs(wide).sum(0).max()
    print(f"sums deviate by {deviation:.1e} of the magnitudes' sum; at most 1e-6, they are taken in float32")
    assert deviation <= 1e-6
    assert record.rows == rows
    counted = wide.reshape(2, -1, channels)[:, ::step].reshape(-1, channels)
    top = int(find_bins(np.abs(wide).max()[None])[0]) + 1
    assert record.top == top
    columns = np.clip(find_bins(np.abs(counted)) - (top - BINS), 0, BINS - 1)
    wanted = np.stack([np.bincount(columns[:, channel], minlength=BINS) for channel in range(channels)])
    assert np.array_equal(record.counts.numpy(), wanted)


@pytest.mark.parametrize("width", [4, 64, 1024])
def test_the_counted_rows_come_from_all_columns_of_a_picture(width: int) -> None:
    """A picture whose columns differ, of powers of two: an even step would meet a few of them again and again."""
    columns = torch.arange(1, width + 1).float().repeat(8 * COUNTED_ROWS // width, 1).reshape(-1, 1)
    counts = record_rows(columns).counts[0]
    wanted = record_rows(columns[:width]).counts[0] / width
    deviation = float((counts / counts.sum() - wanted).abs().max())
    print(f"shares deviate by {deviation:.3f}, at most 0.01")
    assert deviation <= 0.01


@pytest.mark.parametrize("cuts", [[1, 299], [100, 100, 100], [299, 1]])
def test_parts_merge_into_the_whole(cuts: list[int]) -> None:
    rows = make_rows()
    rows[-1] *= 500  # the last part moves the window up by nine octaves
    parts = [record_rows(part) for part in rows.split(cuts)]
    assert_same(merge_records(parts), record_rows(rows))
    assert_same(merge_records(reversed(parts)), record_rows(rows))


def test_no_rows_at_all() -> None:
    empty = record_rows(torch.zeros(0, 5))
    assert_same(merge_records([empty, record_rows(make_rows())]), record_rows(make_rows()))
    assert empty.mean.tolist() == [0.0] * 5


def test_of_many_rows_all_are_looked_at_and_some_counted() -> None:
    rows = torch.ones(3 * COUNTED_ROWS + 7, 2)
    rows[4, 1] = 9.0  # not among every fourth one
    record = record_rows(rows)
    assert record.amax.tolist() == [1.0, 9.0]
    assert COUNTED_ROWS // 2 < record.counts[0].sum() <= COUNTED_ROWS
    assert record.rows == len(rows)


def test_a_value_that_is_no_number_is_seen() -> None:
    rows = make_rows()
    rows[7, 2] = float("nan")
    assert not torch.isfinite(record_rows(rows).amax[2])


def test_records_survive_the_disk(tmp_path: Path) -> None:
    record, output = record_rows(make_rows()), torch.arange(6.0)
    save_records(tmp_path / "deep" / "x.safetensors", {"a.b": record}, {"output": output})
    kept = load_records(tmp_path / "deep" / "x.safetensors")
    assert kept is not None
    records, others = kept
    assert list(records) == ["a.b"]
    assert_same(records["a.b"], record)
    assert torch.equal(others["output"], output)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("damage", [lambda data: data[:200], lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: b""])
def test_a_damaged_file_is_none(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "x.safetensors"
    save_records(path, {"a": record_rows(make_rows())})
    path.write_bytes(damage(path.read_bytes()))
    assert load_records(path) is None
    assert load_records(tmp_path / "absent") is None
    assert load_records(tmp_path) is None, "a folder is no record"
