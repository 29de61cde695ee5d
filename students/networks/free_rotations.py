"""Rotations of pictures of any size: a table of rows and one of columns, looked up by the sides of the latents at hand.

    token (r, c) of h x w    (frame, rows[o_h + r], columns[o_w + c])
    o                        0 (Z-Image), or MOST - (side - side // 2) where positions are centred on 0 (Qwen-Image)
    text row j               the row max(h // 2, w // 2) + j of a table (Qwen-Image); it does not move with Z-Image's sides
A table of one size holds the same numbers, so the graphs of one size and of any compute alike. Sides are read off a range over
them, as tensors: exporters translate those everywhere, and arithmetic on sizes not.
Shapes: tables [positions, pairs of their axis]; results [1, N, pairs].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.transformers.transformer_qwenimage import QwenEmbedRope
from torch import nn

from sprint_export.students.networks.z_image_blocks import Rotation, tabulate_rotations

MOST = 4096  # positions on either side of 0: the stock table's of Qwen-Image
PARTS = ("cos", "sin")


class FreePlane(nn.Module):
    """(range over rows [h], over columns [w]) -> rotations of h x w tokens by row and column, the rows' pairs first."""

    rows_cos: torch.Tensor
    rows_sin: torch.Tensor
    columns_cos: torch.Tensor
    columns_sin: torch.Tensor

    def __init__(self, pairs: tuple[int, int], is_centred: bool) -> None:
        super().__init__()
        self.is_centred = is_centred
        for axis, count in zip(("rows", "columns"), pairs, strict=True):
            for part in PARTS:
                self.register_buffer(f"{axis}_{part}", torch.empty((1 + is_centred) * MOST, count))

    def forward(self, rows: torch.Tensor, columns: torch.Tensor) -> Rotation:
        """int64 [h] and [w], 0, 1, 2, ... -> [1, h w, pairs], twice."""
        cos = self._join(self.rows_cos, self.columns_cos, rows, columns)
        return cos, self._join(self.rows_sin, self.columns_sin, rows, columns)

    def _join(self, by_row: torch.Tensor, by_column: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        down = by_row.index_select(0, self._place(rows))[:, None].expand(-1, columns.shape[0], -1)
        across = by_column.index_select(0, self._place(columns))[None].expand(rows.shape[0], -1, -1)
        return torch.cat([down, across], dim=2).flatten(0, 1)[None]

    def _place(self, steps: torch.Tensor) -> torch.Tensor:
        """Which rows of a table."""
        if not self.is_centred:
            return steps
        side = steps[-1:] + 1
        return steps + (MOST - (side - side // 2))


class FreeQwenRotations(nn.Module):
    """(h, w, T) -> rotations of the picture's tokens and of the text's rows."""

    text_cos: torch.Tensor  # [MOST + T, d / 2]
    text_sin: torch.Tensor

    def __init__(self, config: Mapping[str, Any], rows: int) -> None:
        super().__init__()
        self.frame, *plane = (size // 2 for size in config["axes_dims_rope"])
        self.plane = FreePlane((plane[0], plane[1]), is_centred=True)
        for part in PARTS:
            self.register_buffer(f"text_{part}", torch.empty(MOST // 2 + rows, self.frame + sum(plane)))

    def forward(self, height: int, width: int, text: int) -> tuple[Rotation, Rotation]:
        """Sides in patches and rows of text -> [1, h w, d / 2] and [1, T, d / 2], each twice."""
        rows, columns, words = (torch.arange(side, device=self.text_cos.device) for side in (height, width, text))
        cos, sin = self.plane(rows, columns)
        frame = cos[..., : self.frame] * 0  # the only frame is at position 0
        start = torch.maximum((rows[-1:] + 1) // 2, (columns[-1:] + 1) // 2)
        text_cos, text_sin = (table.index_select(0, start + words)[None] for table in (self.text_cos, self.text_sin))
        return (torch.cat([frame + 1, cos], dim=2), torch.cat([frame, sin], dim=2)), (text_cos, text_sin)


def tabulate_qwen(config: Mapping[str, Any], rope: QwenEmbedRope, rows: int) -> dict[str, torch.Tensor]:
    """The tables of FreeQwenRotations by its names, diffusers' own to the last digit.

    Args:
        config: the stock transformer's.
        rope: the stock rotations.
        rows: T.
    """
    sizes = [size // 2 for size in config["axes_dims_rope"]]
    every = torch.cat([rope.neg_freqs, rope.pos_freqs])  # positions -MOST to MOST - 1
    _, down, across = every.split(sizes, dim=1)
    text = rope.pos_freqs[: MOST // 2 + rows]
    named = {"plane.rows": down, "plane.columns": across, "text": text}
    return {f"{name}_{part}": _take(table, part) for name, table in named.items() for part in PARTS}


def tabulate_plane(sizes: tuple[int, ...], theta: float) -> dict[str, torch.Tensor]:
    """The tables of Z-Image's FreePlane by its names, likewise.

    Args:
        sizes: channels of frame, row and column.
        theta: base of the angles.
    """
    cos, sin = tabulate_rotations(torch.arange(MOST)[:, None].expand(-1, 3), sizes, theta)
    _, *pairs = (size // 2 for size in sizes)
    found = {}
    for part, table in zip(PARTS, (cos, sin), strict=True):
        _, found[f"rows_{part}"], found[f"columns_{part}"] = (
            each.contiguous() for each in table.split([sizes[0] // 2, *pairs], dim=1)
        )
    return found


def _take(table: torch.Tensor, part: str) -> torch.Tensor:
    return (table.real if part == "cos" else table.imag).contiguous()
