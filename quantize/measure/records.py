"""What calibration remembers of a layer's input: a histogram, the largest magnitude and the mean of every channel.

A magnitude's bin is the top of its float32 pattern: the exponent and two bits of the mantissa, so there are four bins an octave,
    b(x) = bits(|x|) >> 21        start(b) = float with pattern b << 21        start(b + 4) = 2 start(b)
and BINS of them reach 16 octaves down from the largest value seen; what is smaller falls into the lowest. A larger value moves
the window up, exactly. Per channel, because dividing a channel by a smoothing factor then moves its counts and no more: one
record serves every observer and every smoothing. Largest values and means are taken over all rows, counts over evenly spaced
ones. Records of parts of the prompts merge into the record of all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from sprint_export.quantize.tensor_files import load_tensors, save_tensors

BINS = 64
MANTISSA_SHIFT = 21  # of float32's 23 mantissa bits two are kept
COUNTED_ROWS = 4096  # of one call; a 1024 px decoder has a million a picture
COUNTED_VALUES = 1 << 20  # of one call, where rows are wide: a hundred of them lie beyond 99.99 %


@dataclass(frozen=True)
class Record:
    """One layer's input over all rows seen.

    `counts` int32 [C, BINS], bin `top - BINS + i` in column i; `amax` float32 [C]; `total` float64 [C], the sum of `rows` rows.
    """

    counts: torch.Tensor
    top: int
    amax: torch.Tensor
    total: torch.Tensor
    rows: int

    @property
    def mean(self) -> torch.Tensor:
        """float64 [C]."""
        return self.total / max(self.rows, 1)


def count_bytes(channels: int) -> int:
    """Of the records of layers that read so many channels in all, as they lie in a file."""
    return channels * (BINS * 4 + 4 + 8)


def bin_index(magnitude: torch.Tensor) -> torch.Tensor:
    """Bins of float32 magnitudes, int32 of the same shape."""
    return magnitude.contiguous().view(torch.int32) >> MANTISSA_SHIFT


def bin_start(index: torch.Tensor) -> torch.Tensor:
    """The smallest magnitude of each bin, float32."""
    return (index.to(torch.int32) << MANTISSA_SHIFT).view(torch.float32)


def record_rows(rows: torch.Tensor) -> Record:
    """The record of float rows [..., C] in any layout and on any device, itself on the CPU.

    Where a value is NaN or infinite, so is that channel's largest.
    """
    channels = rows.shape[-1]
    if not rows.numel():
        empty = torch.zeros(channels)
        return Record(torch.zeros(channels, BINS, dtype=torch.int32), 0, empty, empty.double(), 0)
    before, count = tuple(range(rows.dim() - 1)), rows.numel() // channels
    amax = torch.maximum(rows.amax(before), -rows.amin(before)).float().cpu()  # fast in any layout, `aminmax` in none
    total = rows.sum(before, dtype=torch.float32).cpu().double()  # a sum in float64 copies all rows first
    top = int(bin_index(amax.max())) + 1
    step = -(-count // min(COUNTED_ROWS, max(1, COUNTED_VALUES // channels)))
    counted = rows[..., :: step | 1, :].abs().float()  # odd, so that no column of a picture is counted more than others
    columns = (bin_index(counted) - (top - BINS)).clamp_(0, BINS - 1)
    places = columns + BINS * torch.arange(channels, dtype=torch.int32, device=rows.device)
    counts = torch.bincount(places.flatten(), minlength=channels * BINS).reshape(channels, BINS)
    return Record(counts.to(torch.int32).cpu(), top, amax, total, count)


def merge_records(records: Iterable[Record]) -> Record:
    """One record of all rows of these."""
    first, *others = records
    for other in others:
        top = max(first.top, other.top)
        counts = _raise_window(first, top) + _raise_window(other, top)
        amax = torch.maximum(first.amax, other.amax)
        first = Record(counts, top, amax, first.total + other.total, first.rows + other.rows)
    return first


def _raise_window(record: Record, top: int) -> torch.Tensor:
    """Its counts in the window below `top`."""
    if not record.rows:
        return record.counts
    up = min(top - record.top, BINS - 1)
    moved = torch.zeros_like(record.counts)
    moved[:, : BINS - up] = record.counts[:, up:]
    moved[:, 0] += record.counts[:, :up].sum(1, dtype=torch.int32)
    return moved


def save_records(path: Path, records: Mapping[str, Record], others: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write records, and other tensors under names without a slash, into the cache as one safetensors file.

    Raises:
        MachineError: the cache cannot be written to, or its disk is full.
    """
    tensors = dict(others or {})
    for name, record in records.items():
        parts = {"counts": record.counts, "amax": record.amax, "total": record.total}
        parts["span"] = torch.tensor([record.top, record.rows])
        tensors |= {f"{name}/{part}": value.clone() for part, value in parts.items()}
    save_tensors(path, tensors)


def load_records(path: Path) -> tuple[dict[str, Record], dict[str, torch.Tensor]] | None:
    """What `save_records` wrote; None where it is not there, or damaged."""
    tensors = load_tensors(path)
    if tensors is None:
        return None
    records = {}
    for name in (key.removesuffix("/counts") for key in tensors if key.endswith("/counts")):
        top, rows = tensors[f"{name}/span"].tolist()
        records[name] = Record(tensors[f"{name}/counts"], top, tensors[f"{name}/amax"], tensors[f"{name}/total"], rows)
    return records, {key: value for key, value in tensors.items() if "/" not in key}
