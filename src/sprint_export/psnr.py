"""PSNR of pictures: one definition for the report and for a search that promises what the report will say."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    UInt8 = npt.NDArray[np.uint8]

CAP_DB = 100.0  # identical arrays have infinite PSNR; a report needs a number


def psnr_images(found: UInt8, wanted: UInt8) -> npt.NDArray[np.float64]:
    """PSNR in dB of each picture of uint8 [B, H, W, 3], peak 255, at most 100."""
    import numpy as np

    error = np.square(found.astype(np.float64) - wanted).mean(axis=(1, 2, 3))
    capped: npt.NDArray[np.float64] = np.minimum(CAP_DB, 10 * np.log10(255**2 / np.maximum(error, 1e-12)))
    return capped
