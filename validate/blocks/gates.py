"""Rows and default gates of what the blocks say: a fault may be too small for the pictures' gates, and it is none less one."""

from __future__ import annotations

from collections.abc import Sequence

from sprint_export.nouns.report import BlockError, Gate, Measurement
from sprint_export.validate.blocks.prompt_ids import NETWORK

DEPARTING, DIFFERING = "departing_blocks", "differing_ids_percent"
GATES = (
    Gate(DEPARTING, "<=", 0.0, "both sides round alike: what is further apart than two roundings is another computation"),
    Gate(DIFFERING, "<=", 0.0, "a bundle reads prompts as its student does, or draws something else"),
)


def make_rows(blocks: Sequence[BlockError]) -> list[Measurement]:
    """One row a network: whether it departs, and where first; one of the prompts' ids."""
    rows = []
    for network in dict.fromkeys(each.network for each in blocks):
        mine = [each for each in blocks if each.network == network]
        if network == NETWORK:
            share = 100 * max(each.relative_error for each in mine)
            rows.append(Measurement(DIFFERING, share, "%", note="of the prompts' ids, from those that the student makes"))
            continue
        first = next((each for each in mine if each.departs), None)
        note = f"{len(mine)} compared on one prompt, exported vs torch with the same rounding"
        if first is not None:
            note = f"first at {first.block}, {first.psnr_db:.1f} dB from float32; rounding gives {first.rounded_psnr_db:.1f}"
        rows.append(Measurement(DEPARTING, float(first is not None), "", network, note=note))
    return rows
