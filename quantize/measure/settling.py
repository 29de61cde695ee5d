"""When enough prompts were seen: twice as many moved no layer's range by more than a share.

    range       max over channels of a_c                 a_c = max |x_c| over the prompts
    smoothed    max over channels of a_c / sqrt(b_c)     b_c = a_c over the first half of the prompts
Rounds end after 4, 8, 16, ... prompts; after each, what all have shown is compared with what the first half had. Smoothing
(mend/smooth.py) divides a channel by a factor that its own largest value decides, so a channel that is rare in the first prompts
is left large, and cut off when it comes: hence the second line, where the weights' share of the factor is taken to be the same
for all channels. It depends on what was measured alone, so every machine stops after the same prompt.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise, starmap, takewhile
from typing import NamedTuple

import torch

FEWEST = 4  # prompts; from one, smoothed ranges cut others' values: 26.6 dB where four give 34.6 (benchmarks/results/README.md)
GROWTH = 1 / 8  # of a range; what is then cut off adds as much as rounding only where one value in a thousand lies beyond
SMOOTHED_GROWTH = 1 / 4


class Maxima(NamedTuple):
    """What one chunk showed: `stop` is the number of its last prompt, from 1 on; largest magnitudes float32 [C] by layer."""

    stop: int
    largest: Mapping[str, torch.Tensor]


def list_rounds(count: int) -> list[list[slice]]:
    """Prompts by round: 2 and 2, so that halves can be compared, then as many again as went before."""
    stops = takewhile(lambda stop: stop < count, (FEWEST // 2 << i for i in itertools.count()))
    parts = list(starmap(slice, pairwise((0, *stops, count))))
    return [parts[:2], *([part] for part in parts[2:])]


def has_settled(chunks: Sequence[Maxima], smoothed: Collection[str]) -> bool:
    """Whether the second half of the prompts showed no more of any layer than the first.

    Args:
        chunks: all that was seen, whole rounds of it.
        smoothed: layers whose inputs' channels smoothing may divide.
    """
    count = max((chunk.stop for chunk in chunks), default=0)
    if count < FEWEST:
        return False
    before, after = _gather([chunk for chunk in chunks if 2 * chunk.stop <= count]), _gather(chunks)
    return all(_keeps(before[layer], after[layer], layer in smoothed) for layer in after)


def _gather(chunks: Sequence[Maxima]) -> dict[str, torch.Tensor]:
    layers = dict.fromkeys(layer for chunk in chunks for layer in chunk.largest)
    return {layer: torch.stack([chunk.largest[layer] for chunk in chunks if layer in chunk.largest]).amax(0) for layer in layers}


def _keeps(before: torch.Tensor, after: torch.Tensor, is_smoothed: bool) -> bool:
    """Whether a layer's range, [C] by channel, stays within its bound."""
    if not bool(after.max() <= (1 + GROWTH) * before.max()):
        return False
    if not is_smoothed or not before.any():
        return True
    factors = torch.where(before > 0, before, before[before > 0].median()).sqrt()
    return bool((after / factors).max() <= (1 + SMOOTHED_GROWTH) * (before / factors).max())
