"""How far two sets of pictures, or two arrays, are apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sprint_export.psnr import CAP_DB
from sprint_export.validate.rows import Rows, split_rows

UInt8 = npt.NDArray[np.uint8]


def ssim_images(found: UInt8, wanted: UInt8) -> npt.NDArray[np.float64]:
    """SSIM of each picture (scikit-image's, 7x7 window, per channel)."""
    from skimage.metrics import structural_similarity

    compare: Any = structural_similarity  # untyped in scikit-image
    return np.array([compare(a, b, channel_axis=-1) for a, b in zip(found, wanted, strict=True)])


def psnr_arrays(found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> float:
    """PSNR in dB of float arrays, peak = largest magnitude wanted, at most 100."""
    wanted = wanted.astype(np.float64)
    error = np.square(found - wanted).mean()
    return float(min(CAP_DB, 10 * np.log10(max(np.square(wanted).max(), 1e-24) / max(error, 1e-24))))


def relative_error(found: Rows, wanted: Rows) -> float:
    """Largest difference over the largest magnitude wanted."""
    apart, largest = [], []
    for part in split_rows(wanted):
        ours, theirs = found[part], wanted[part]
        apart.append(np.abs(ours - theirs).max())
        largest.append(np.abs(theirs).max())
    return float(np.max(apart) / max(np.max(largest), 1e-12))


def draw_contact_sheet(rows: list[tuple[str, Rows]], path: Any, most: int = 8, gain: int = 4) -> None:
    """A PNG with one row per set of pictures and, last, the difference of the last from the first, amplified `gain` times."""
    from PIL import Image, ImageDraw

    sides = [(title, pictures[:most]) for title, pictures in rows]
    first, last = sides[0][1], sides[-1][1]
    difference = np.clip(np.abs(last.astype(np.int16) - first) * gain, 0, 255).astype(np.uint8)
    side = first.shape[1]
    scale = max(1, 128 // side) if side < 256 else 1
    sheets = []
    for title, pictures in [*sides, (f"difference x{gain}", difference)]:
        strip = Image.fromarray(np.concatenate(list(pictures), axis=1))
        strip = strip.resize((strip.width * scale, strip.height * scale), Image.Resampling.NEAREST)
        labelled = Image.new("RGB", (strip.width, strip.height + 16), "white")
        labelled.paste(strip, (0, 16))
        ImageDraw.Draw(labelled).text((4, 2), title, fill="black")
        sheets.append(np.asarray(labelled))
    Image.fromarray(np.concatenate(sheets)).save(path)
