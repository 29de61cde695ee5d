"""Pictures inside a page: PNG, bit for bit, up to a small size; scaled down and WebP above it."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sprint_export.validate.rows import Rows, split_rows

UInt8 = npt.NDArray[np.uint8]

EXACT_SIDE = 128  # pixels: up to here a picture is embedded as it is
LONGEST_SIDE = 512  # above, it is scaled down to this
QUALITY = 85  # of WebP, or of JPEG where Pillow was built without WebP
GAINS = (1, 2, 4, 8, 16, 32, 64)
SAMPLED_PIXELS = 1 << 20  # of all pictures; they say enough to choose a gain
SHOWN_SHARE = 99.5  # percent of all differences that the gain leaves below white


@dataclass(frozen=True)
class Embedded:
    """A picture as the `src` of an image, with its size in pixels as it is embedded."""

    url: str
    width: int
    height: int


def embed_picture(picture: UInt8) -> Embedded:
    """A picture, uint8 [H, W, 3], as a data: address."""
    from PIL import Image, features

    image, buffer = Image.fromarray(picture), io.BytesIO()
    if max(image.size) <= EXACT_SIDE:
        kind = "png"
        image.save(buffer, kind, optimize=True)
    else:
        kind = "webp" if features.check("webp") else "jpeg"
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
        image.save(buffer, kind, quality=QUALITY)
    return Embedded(f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", *image.size)


def choose_gain(exported: Rows, reference: Rows) -> int:
    """By how much differences of pictures [B, H, W, 3] are amplified to be seen: one gain for all, so that they compare."""
    pixels = math.prod(exported.shape[1:3])
    step, skip, found = max(1, len(exported) * pixels // SAMPLED_PIXELS), 0, []
    for part in split_rows(exported):
        ours, theirs = (side[part].reshape(-1, 3)[skip::step] for side in (exported, reference))
        found.append(np.abs(ours.astype(np.int16) - theirs))
        skip = (skip - min(part.stop - part.start, len(exported) - part.start) * pixels) % step
    apart = np.concatenate(found)
    largest = float(np.percentile(apart, SHOWN_SHARE)) if apart.size else 0.0
    return max((gain for gain in GAINS if gain * largest <= 255), default=1)


def amplify_difference(exported: UInt8, reference: UInt8, gain: int) -> UInt8:
    """|exported - reference| times the gain, uint8; white where it is more than that holds."""
    apart = np.abs(exported.astype(np.int16) - reference) * gain
    amplified: UInt8 = np.minimum(apart, 255).astype(np.uint8)
    return amplified
