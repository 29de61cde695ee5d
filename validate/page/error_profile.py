"""Where the error is born: how far each block's output is from PyTorch's, in the order the blocks run, from the top down."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sprint_export.nouns.report import BlockError
from sprint_export.psnr import CAP_DB
from sprint_export.validate.page.axes import Axis, make_axis
from sprint_export.validate.page.templates import clean, render

WIDTH, LEFT, RIGHT, TOP = 360.0, 146.0, 346.0, 24.0
EXACT_LANE = 34.0  # pixels at the right, for outputs that are the same: they would push all others to the left
ROW, NARROW_ROW, WIDE_ROWS = 20.0, 14.0, 32  # pixels a block; up to so many blocks the wider
LONGEST_NAME = 22  # letters beside the plot; a name that is longer keeps its end


@dataclass(frozen=True)
class _Row:
    block: BlockError
    name: str
    y: float
    exported: float | None
    rounded: float | None


def render_profiles(blocks: Sequence[BlockError]) -> Markup:
    """A plot and a table of each network."""
    networks = dict.fromkeys(block.network for block in blocks)
    return render("profiles.html", profiles=[_draw_profile([b for b in blocks if b.network == name]) for name in networks])


def name_origin(blocks: Sequence[BlockError]) -> str:
    """One sentence: the first blocks that depart, or that none does."""
    found = [block for block in blocks if block.departs]
    if not found:
        return "No block is further from PyTorch than its rounding explains."
    each = (f"{block.block} of {block.network} ({block.psnr_db:.1f} dB{_beside(block)})" for block in found)
    return f"The first block that departs, or holds weights that nobody meant: {'; '.join(each)}."


def _beside(block: BlockError) -> str:
    return "" if block.rounded_psnr_db is None else f"; rounding alone gives {block.rounded_psnr_db:.1f}"


def _draw_profile(blocks: Sequence[BlockError]) -> dict[str, object]:
    """What profile.html draws of one network."""
    blocks = sorted(blocks, key=lambda block: block.place)
    figures = [value for block in blocks for value in (block.psnr_db, block.rounded_psnr_db) if value is not None]
    is_exact = any(value >= CAP_DB for value in figures)
    right = RIGHT - EXACT_LANE if is_exact else RIGHT
    apart = [value for value in figures if value < CAP_DB]
    axis = make_axis(apart, LEFT, right, 3)
    height = ROW if len(blocks) <= WIDE_ROWS else NARROW_ROW
    rows = list(_place_rows(blocks, axis, height))
    return {
        "network": blocks[0].network,
        "rows": rows,
        "ticks": axis.ticks if apart else [],
        "row_height": height,
        "exported": _join((row.exported, row.y) for row in rows),
        "rounded": _join((row.rounded, row.y) for row in rows),
        "exact": RIGHT if is_exact else None,
        "has_rounded": any(row.rounded is not None for row in rows),
        "origin": next((block for block in blocks if block.departs), None),
        "frame": (LEFT, TOP, right, TOP + height * len(blocks)),
        "width": WIDTH,
    }


def _place_rows(blocks: Sequence[BlockError], axis: Axis, height: float) -> Iterator[_Row]:
    for i, block in enumerate(blocks):
        name = clean(block.block)
        if len(name) > LONGEST_NAME:
            name = f"\u2026{name[1 - LONGEST_NAME :]}"
        yield _Row(block, name, TOP + height * (i + 0.5), _place(block.psnr_db, axis), _place(block.rounded_psnr_db, axis))


def _place(value: float | None, axis: Axis) -> float | None:
    """Its pixel; in the lane at the right where nothing differs."""
    if value is None or math.isnan(value):
        return None
    return RIGHT if value >= CAP_DB else axis.place(value)


def _join(points: Iterator[tuple[float | None, float]]) -> str:
    """A path through the points; it is broken where one is missing."""
    path, is_open = "", False
    for x, y in points:
        if x is not None:
            path += f"{'L' if is_open else 'M'}{x:.1f} {y:.1f}"
        is_open = x is not None
    return path
