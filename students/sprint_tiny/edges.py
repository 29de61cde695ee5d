"""Edges of shapes: the picture a ControlNet of this world takes, and whether a drawn picture obeys it.

An edge is where neighbouring pixels differ. Two edge pictures are compared by the distance from every edge pixel of one to the
nearest of the other, both ways (the chamfer distance): 0 where they are equal, about as many pixels as an outline is off.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

MIN_STEP = 40.0  # of 255, in any channel, over two pixels: half the least contrast of a shape on a background
OBEYED = 0.75  # pixels; where the caption alone puts shapes, they are 1.5 px off on average
FAR = 64.0  # pixels; what a missing edge counts

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class EdgeMatch:
    """How well drawn pictures obey their edges: share of pictures within OBEYED, mean chamfer distance in pixels."""

    obeyed: float
    distance: float
    pictures: int


def find_edges(picture: UInt8) -> UInt8:
    """White edges on black, uint8 [H, W, 3], of a picture uint8 [H, W, 3]."""
    pixels = np.pad(picture.astype(np.float64), ((1, 1), (1, 1), (0, 0)), mode="edge")
    across, down = pixels[1:-1, 2:] - pixels[1:-1, :-2], pixels[2:, 1:-1] - pixels[:-2, 1:-1]
    steps = np.maximum(np.abs(across), np.abs(down)).max(-1)
    return np.repeat(np.where(steps > MIN_STEP, 255, 0).astype(np.uint8)[..., None], 3, axis=-1)


def measure_distance(edges: UInt8, control: UInt8) -> float:
    """Chamfer distance in pixels between two edge pictures uint8 [H, W, 3]."""
    one, other = (picture.max(-1) > 127 for picture in (edges, control))
    if not one.any() or not other.any():
        return 0.0 if one.any() == other.any() else FAR
    there = ndimage.distance_transform_edt(~other)[one].mean()
    back = ndimage.distance_transform_edt(~one)[other].mean()
    return float((there + back) / 2)


def measure_edges(pictures: Iterable[UInt8], controls: Iterable[UInt8]) -> EdgeMatch:
    """Compare the edges of drawn pictures with the edge pictures they were drawn from; uint8 [H, W, 3] each."""
    found = [measure_distance(find_edges(drawn), control) for drawn, control in zip(pictures, controls, strict=True)]
    return EdgeMatch(float(np.mean([distance <= OBEYED for distance in found])), float(np.mean(found)), len(found))
