"""A record counts what was there, in any order of its parts, and survives the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
