"""Rows, the default gate and the blocks of what the weights say: a wrong one is wrong however little the pictures show of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sprint_export.nouns.report import BlockError, Gate, Measurement
from sprint_export.validate.weights.compare import Difference, Weights

DIFFERING = "differing_layers"
GATES = (Gate(DIFFERING, "<=", 0.0, "a file holds what quantization meant, layer by layer, or computes something else"),)


def make_rows(weights: Weights) -> list[Measurement]:
    """One row a network: how many of its layers have tensors that nobody meant, and which is the first."""
    rows = []
    for network, count in weights.compared.items():
        mine = [each for each in weights.differences if each.network == network]
        note = f"{count} weights, scales, zero points and ranges of activations as quantization meant them"
        if mine:
            more = f"; {len(mine) - 1} more" if len(mine) > 1 else ""
            note = f"first {mine[0].module}: {mine[0].said}{more}"
        rows.append(Measurement(DIFFERING, float(len(mine)), "layers", network, note=note))
    return rows


def mark_blocks(blocks: Sequence[BlockError], differences: Sequence[Difference]) -> tuple[BlockError, ...]:
    """The blocks, the first of each network departing that did before or holds a layer whose weights differ."""
    guilty = {(each.network, each.block) for each in blocks if each.departs or _holds(each, differences)}
    first: dict[str, BlockError] = {}
    for each in blocks:
        if (each.network, each.block) in guilty:
            first.setdefault(each.network, each)
    return tuple(replace(each, departs=first.get(each.network) is each) for each in blocks)


def _holds(block: BlockError, differences: Sequence[Difference]) -> bool:
    path = block.block.partition("[")[0]
    return any(each.network == block.network and f"{each.module}.".startswith(f"{path}.") for each in differences)
