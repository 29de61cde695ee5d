"""Colours of pages, light and dark: texts and marks stand out (WCAG 2.2), and colour vision of any kind tells them apart."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from sprint_export.validate.page.templates import read_part

TEXTS = ("ink", "quiet", "accent", "met", "failed", "open")
MARKS = ("tone-1", "tone-2", "tone-3", "tone-4", "tone-5", "tone-6", "edge")
TONES = tuple(f"tone-{i}" for i in range(7))
# What protanopes, deuteranopes and tritanopes see, of linear RGB: Machado, Oliveira, Fernandes, IEEE TVCG 15 (2009), severity 1.
VISIONS = {
    "full": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
WASHES = {"met": "met-wash", "failed": "failed-wash", "open": "open-wash"}


def read_colours() -> dict[str, tuple[str, str]]:
    """Name -> its light and its dark colour."""
    found = re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", read_part("style.css"))
    return {name: (light, dark) for name, light, dark in found}


def linearize(colour: str) -> list[float]:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def see(colour: str, vision: str) -> npt.NDArray[np.float64]:
    """CIELAB of what such eyes see of it."""
    linear = np.clip(np.array(VISIONS[vision]) @ linearize(colour), 0, 1)
    return np.asarray(rgb2lab(np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)))


def luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it."""
    linear = linearize(colour)
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_colours_stand_out(mode: int) -> None:
    colours = {name: pair[mode] for name, pair in read_colours().items()}
    pairs = [(name, behind, 4.5) for name in TEXTS for behind in ("paper", "raised")]
    pairs += [(name, wash, 4.5) for name, wash in WASHES.items()]
    pairs += [("ink", wash, 7.0) for wash in WASHES.values()]
    pairs += [(name, "paper", 3.0) for name in MARKS]
    weak = {
        (a, b): round(contrast(colours[a], colours[b]), 2) for a, b, least in pairs if contrast(colours[a], colours[b]) < least
    }
    assert not weak


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_all_kinds_of_colour_vision_tell_them_apart(mode: int, vision: str) -> None:
    colours = {name: pair[mode] for name, pair in read_colours().items()}
    difference: Any = deltaE_ciede2000  # untyped in scikit-image
    for names, least in ((("met", "failed", "open"), 15.0), (TONES[:4], 15.0), (TONES, 10.0)):
        apart = {
            (one, other): float(difference(see(colours[one], vision), see(colours[other], vision)))
            for one, other in itertools.combinations(names, 2)
        }
        assert not {pair: round(value, 1) for pair, value in apart.items() if value < least}


def test_the_measure_itself() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)
