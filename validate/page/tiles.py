"""Pictures of one prompt beside each other, worst first; a script sorts and searches them and shows them large.

A page holds as many as MOST_TILES and MOST_BYTES let it. Which those are, `rank_rows` says: all that flipped, then the worst and
an even sample of all, in turn.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from sprint_export.nouns.report import PictureRow
from sprint_export.validate.page.embedding import Embedded, embed_picture
from sprint_export.validate.page.templates import clean, render

UInt8 = npt.NDArray[np.uint8]

MOST_TILES = 120
MOST_BYTES = 12_000_000  # of the embedded pictures; a page has at most half a megabyte more
LONGEST_PROMPT = 2000  # letters of it that are in the page
FEW = 24  # tiles that are shown until one asks for all
SHORT = 100  # letters of a prompt in the name of a picture
FRACTION = 0.6180339887498949  # multiples of it, less their whole part, lie evenly however many there are
FIRST_FIGURE = "psnr_db"  # that says which is worst, where pictures have it


@dataclass(frozen=True)
class Tile:
    """One prompt's pictures.

    Args:
        row: its place, prompt and figures.
        seed: the noise is this seed's, at the row's place.
        shots: pictures uint8 [H, W, 3] by what stands under them.
    """

    row: PictureRow
    seed: int
    shots: Mapping[str, UInt8]


@dataclass
class _Shown:
    tile: Tile
    pictures: list[tuple[str, Embedded]]
    figures: list[tuple[str, float | None]] = field(default_factory=list)

    @property
    def prompt(self) -> str:
        """As much of it as the page holds."""
        text = self.tile.row.prompt
        more = f" ... ({len(text):,} letters)" if len(text) > LONGEST_PROMPT else ""
        return clean(text[:LONGEST_PROMPT]) + more

    @property
    def short(self) -> str:
        """What names the pictures to who does not see them."""
        text = " ".join(clean(self.tile.row.prompt[: 2 * SHORT]).split())
        return text if len(text) <= SHORT else f"{text[:SHORT]} ..."

    @property
    def data(self) -> str:
        """Figures for the script, as JSON; what is no number is null."""
        return json.dumps(dict(self.figures))


def rank_rows(rows: Sequence[PictureRow]) -> list[int]:
    """Indices of all rows, those first that a page shows first where it cannot show all."""
    worst = sort_worst(rows)
    flipped = [i for i in worst if rows[i].flipped]
    even = sorted(range(len(rows)), key=lambda i: (i * FRACTION) % 1)
    mixed = (i for i in chain.from_iterable(zip_longest(worst, even)) if i is not None)
    return list(dict.fromkeys(chain(flipped, mixed)))


def sort_worst(rows: Sequence[PictureRow]) -> list[int]:
    """Indices by the first figure, the least first; flips before all others, and of each what is no number first."""
    name = find_first_figure(rows)

    def key(i: int) -> tuple[bool, float, int]:
        value = rows[i].figures.get(name, math.nan)
        return not rows[i].flipped, -math.inf if math.isnan(value) else value, rows[i].place

    return sorted(range(len(rows)), key=key)


def find_first_figure(rows: Sequence[PictureRow]) -> str:
    """The figure that says which picture is worst."""
    names = list_figures(rows)
    return FIRST_FIGURE if FIRST_FIGURE in names or not names else names[0]


def list_figures(rows: Iterable[PictureRow]) -> list[str]:
    """Names of figures that any row has, in the order they come."""
    return list(dict.fromkeys(name for row in rows for name in row.figures))


def render_tiles(tiles: Iterable[Tile], count: int, caption: str) -> Markup:
    """Tiles with a search field and an order to choose.

    Args:
        tiles: in the order of `rank_rows`; taken one by one, until the page is full.
        count: how many pictures were drawn.
        caption: what stands beside each other, in a sentence.
    """
    shown: list[_Shown] = []
    size = 0
    for tile in tiles:
        found = _embed(tile)
        size += sum(len(picture.url) for _, picture in found.pictures)
        if shown and (size > MOST_BYTES or len(shown) == MOST_TILES):
            break
        shown.append(found)
    rows = [each.tile.row for each in shown]
    is_small = all(max(picture.width, picture.height) < 256 for each in shown for _, picture in each.pictures)
    return render(
        "tiles.html",
        shown=[shown[i] for i in sort_worst(rows)],
        names=list_figures(rows),
        first=find_first_figure(rows),
        count=count,
        few=FEW,
        caption=caption,
        has_flips=any(row.flipped for row in rows),
        is_small=is_small,
    )


def _embed(tile: Tile) -> _Shown:
    pictures = [(label, embed_picture(picture)) for label, picture in tile.shots.items()]
    figures = [(name, value if math.isfinite(value) else None) for name, value in tile.row.figures.items()]
    return _Shown(tile, pictures, figures)
