"""Pictures that came with a set of prompts, read one at a time: what they hold is untrusted, and bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sprint_export.validate.image_metrics.metric import UnmeasuredError

if TYPE_CHECKING:
    from sprint_export.validate.image_metrics.metric import Comparison, UInt8

MOST_PIXELS = 50_000_000  # of one picture


def read_originals(comparison: Comparison) -> Iterator[UInt8]:
    """Each as uint8 [1, H, W, 3].

    Raises:
        UnmeasuredError: one cannot be read, or is larger than any such picture.
    """
    return (read_original(path) for path in comparison.originals)


def read_original(path: Path) -> UInt8:
    """One as uint8 [1, H, W, 3].

    Raises:
        UnmeasuredError: likewise.
    """
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise UnmeasuredError(f"{path} has {picture.width} x {picture.height} pixels; expected at most {MOST_PIXELS:,}")
            return np.asarray(picture.convert("RGB"), np.uint8)[None]
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UnmeasuredError(f"{path} cannot be read as a PNG, JPEG or WebP picture ({error})") from error
