"""Prompt adherence for the shapes world: read the scene back from pixels and hold it against the caption.

The background is the colour that most border pixels are nearest to. Everything that departs from it is split into
connected components; each is named by the palette colour nearest to its median pixel, its form by its bounding box (a
triangle has a quarter of its mass in the upper half, a square fills the upper corners, a circle neither), its size by the
box, its place by the box's centre. How much of the box is filled would do on rendered pictures, but not where a decoder
rounds corners or an edge wobbles by a pixel.
No model judges: the figure is exact on rendered pictures (error <= 0.5 %, tested).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sprint_export.students.sprint_tiny.world import BACKGROUNDS, COLOURS, PLACES, RADII, Scene, Shape, read_caption

MIN_DISTANCE = 60.0  # RGB distance from the background below which a pixel is background: half the closest pair
MIN_AREA = 30  # pixels; the smallest form, a small triangle, covers 128
SIZE_EDGE = sum(RADII.values())  # box width between small (16) and large (26)
CORNER_SHARE = 0.2  # side of a corner box, of the bounding box: 3 px of a small form
SQUARE_CORNERS = 0.45  # mean coverage of the upper corner boxes: 1.0 in a square, 0.15 in a circle, 0 in a triangle
TRIANGLE_TOP = 0.4  # share of the mass in the upper half: 0.25 in a triangle, 0.5 in the others
MIN_OTHER = 10  # pixels of a second colour, edges (which blend into anything) eroded: another shape touches this one
MIN_FILL = 0.3  # of the bounding box; the least of the forms, a triangle, fills 0.5


@dataclass(frozen=True)
class Adherence:
    """Shares in [0, 1] of pictures that get one part of their caption right, and all of it."""

    everything: float
    count: float
    form: float
    colour: float
    size: float
    place: float
    background: float
    pictures: int


def detect_scene(image: npt.NDArray[np.uint8]) -> Scene | None:
    """Read a picture back as a scene; shapes are ordered left to right, then top to bottom.

    Args:
        image: uint8 [64, 64, 3].

    Returns:
        The scene, or None when there is no component, or one that cannot be named: of no form, or of two colours.
    """
    pixels = image.astype(np.float64)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    background = _nearest(np.median(border, axis=0), BACKGROUNDS)
    base = np.array(BACKGROUNDS[background], dtype=np.float64)
    labels, found = ndimage.label(np.linalg.norm(pixels - base, axis=-1) > MIN_DISTANCE)
    shapes = []
    for index in range(1, found + 1):
        region = labels == index
        if region.sum() >= MIN_AREA:
            shapes.append(_name_region(pixels, region, base))
    if not shapes or any(shape is None for shape in shapes):
        return None
    named = [shape for shape in shapes if shape is not None]
    return Scene(tuple(sorted(named, key=lambda s: PLACES[s.place])), background)


def _name_region(pixels: npt.NDArray[np.float64], region: npt.NDArray[np.bool_], base: npt.NDArray[np.float64]) -> Shape | None:
    inside = ndimage.binary_erosion(region, iterations=2)
    colour = _nearest(np.median(pixels[inside if inside.any() else region], axis=0), COLOURS)
    if ndimage.binary_erosion(_find_other(pixels, region, colour)).sum() >= MIN_OTHER:
        return None
    towards = np.array(COLOURS[colour]) - base
    blend = (pixels - base) @ towards / (towards @ towards)  # 0 background, 1 full colour
    solid = ndimage.binary_dilation(region, iterations=2) & (blend > 0.5)
    if not solid.any():
        return None
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    box = np.clip(blend[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 0, 1)
    form = _name_form(box, float(solid.sum() / (height * width)))
    if form is None:
        return None
    centre = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
    place = min(PLACES, key=lambda name: float(np.linalg.norm(centre - PLACES[name])))
    return Shape(form, colour, "large" if max(height, width) > SIZE_EDGE else "small", place)


def _find_other(pixels: npt.NDArray[np.float64], region: npt.NDArray[np.bool_], colour: str) -> npt.NDArray[np.bool_]:
    """Pixels of the region that are nearest to another colour of the palette."""
    distances = np.linalg.norm(pixels[region][:, None] - np.array(list(COLOURS.values()), np.float64), axis=-1)
    other = region.copy()
    other[region] = distances.argmin(-1) != list(COLOURS).index(colour)
    return other


def _name_form(box: npt.NDArray[np.float64], fill: float) -> str | None:
    """box: coverage in [0, 1] inside the bounding box; fill: share of its pixels that are solid."""
    if fill < MIN_FILL:
        return None
    if box[: box.shape[0] // 2].sum() / box.sum() < TRIANGLE_TOP:
        return "triangle"
    height, width = (max(1, round(CORNER_SHARE * side)) for side in box.shape)
    if (box[:height, :width].mean() + box[:height, -width:].mean()) / 2 > SQUARE_CORNERS:
        return "square"
    return "circle"


def _nearest(colour: npt.NDArray[np.float64], palette: dict[str, tuple[int, int, int]]) -> str:
    return min(palette, key=lambda name: float(np.linalg.norm(colour - np.array(palette[name]))))


def measure_adherence(captions: Sequence[str], images: Sequence[npt.NDArray[np.uint8]]) -> Adherence:
    """Score pictures against their captions.

    Args:
        captions: in the grammar of `shapes_world`.
        images: uint8 [64, 64, 3], one per caption.

    Raises:
        ValueError: a caption is outside the grammar, or the two lengths differ.
    """
    rows = [_score(read_caption(c), detect_scene(i)) for c, i in zip(captions, images, strict=True)]
    parts = ("count", "form", "colour", "size", "place", "background")
    shares = {part: float(np.mean([row[part] for row in rows])) for part in parts}
    return Adherence(everything=float(np.mean([all(row.values()) for row in rows])), pictures=len(rows), **shares)


def list_right(captions: Sequence[str], images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.bool_]:
    """Which pictures show everything that their captions say, bool [B].

    Raises:
        ValueError: as `measure_adherence`.
    """
    scenes = zip(captions, images, strict=True)
    return np.array([all(_score(read_caption(caption), detect_scene(image)).values()) for caption, image in scenes], np.bool_)


def list_flips(images: Sequence[npt.NDArray[np.uint8]], reference: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.bool_]:
    """Which pictures no longer show what the reference shows, whether that was right or wrong, bool [B].

    Args:
        images: uint8 [64, 64, 3].
        reference: as many, of the same prompts and noise.
    """
    pairs = zip(images, reference, strict=True)
    return np.array([detect_scene(ours) != detect_scene(theirs) for ours, theirs in pairs], np.bool_)


def count_flips(images: Sequence[npt.NDArray[np.uint8]], reference: Sequence[npt.NDArray[np.uint8]]) -> int:
    """How many of `list_flips`."""
    return int(list_flips(images, reference).sum())


def _score(wanted: Scene, seen: Scene | None) -> dict[str, bool]:
    parts = ("form", "colour", "size", "place")
    if seen is None:
        return dict.fromkeys((*parts, "count", "background"), False)
    same_count = len(seen.shapes) == len(wanted.shapes)
    pairs = list(zip(sorted(wanted.shapes, key=lambda s: PLACES[s.place]), seen.shapes, strict=False))
    score = {part: same_count and all(getattr(a, part) == getattr(b, part) for a, b in pairs) for part in parts}
    return score | {"count": same_count, "background": seen.background == wanted.background}
