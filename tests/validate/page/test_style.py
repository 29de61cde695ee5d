"""Colours of pages: texts stand out from what is behind them, in light and in dark (WCAG 2.2, 4.5 to 1; 3 to 1 of marks)."""

from __future__ import annotations

import re

import pytest

from sprint_export.validate.page.templates import read_part

TEXTS = ("ink", "quiet", "accent", "met", "failed", "open")
MARKS = ("tone-1", "tone-2", "tone-3", "tone-4", "tone-5", "tone-6", "edge")
WASHES = {"met": "met-wash", "failed": "failed-wash", "open": "open-wash"}


def read_colours() -> dict[str, tuple[str, str]]:
    """Name -> its light and its dark colour."""
    found = re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", read_part("style.css"))
    return {name: (light, dark) for name, light, dark in found}


def luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
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


def test_the_measure_itself() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)
