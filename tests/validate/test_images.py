"""Picture metrics beside scikit-image and beside arithmetic done by hand, and the contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import metrics

from sprint_export.psnr import CAP_DB, psnr_images
from sprint_export.validate.images import draw_contact_sheet, psnr_arrays, relative_error, ssim_images

SKIMAGE: Any = metrics  # untyped
RNG = np.random.default_rng(0)
WANTED = RNG.integers(0, 256, (3, 32, 40, 3), dtype=np.uint8)
FOUND = np.clip(WANTED.astype(int) + RNG.integers(-9, 10, WANTED.shape), 0, 255).astype(np.uint8)


def test_psnr_of_every_picture_is_scikit_images() -> None:
    expected = [SKIMAGE.peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(WANTED, FOUND, strict=True)]
    np.testing.assert_allclose(psnr_images(FOUND, WANTED), expected, rtol=1e-12)


def test_psnr_by_hand() -> None:
    """One grey level everywhere is 20 log10(255) dB, and black against white is 0: uint8 must not wrap around."""
    grey = np.full((1, 8, 8, 3), 100, np.uint8)
    assert psnr_images(grey + 1, grey)[0] == pytest.approx(20 * np.log10(255))
    assert psnr_images(grey, grey + 1)[0] == pytest.approx(20 * np.log10(255))
    assert psnr_images(np.zeros_like(grey), np.full_like(grey, 255))[0] == pytest.approx(0)


def test_identical_is_capped_not_infinite() -> None:
    np.testing.assert_array_equal(psnr_images(WANTED, WANTED), [CAP_DB] * 3)
    assert psnr_arrays(WANTED.astype(np.float32), WANTED.astype(np.float32)) == CAP_DB
    np.testing.assert_allclose(ssim_images(WANTED, WANTED), 1.0)
    assert relative_error(WANTED.astype(float), WANTED.astype(float)) == 0


def test_ssim_of_every_picture_is_scikit_images() -> None:
    expected = [SKIMAGE.structural_similarity(a, b, channel_axis=-1, data_range=255) for a, b in zip(FOUND, WANTED, strict=True)]
    found = ssim_images(FOUND, WANTED)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (found < 0.9999).all()


def test_sets_of_other_sizes_are_an_error() -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        ssim_images(WANTED[:2], WANTED)


def test_array_metrics_by_hand() -> None:
    wanted = np.array([0.0, -4.0, 2.0], np.float32)
    found = np.array([0.1, -4.0, 2.0], np.float32)
    assert relative_error(found, wanted) == pytest.approx(0.1 / 4)
    assert psnr_arrays(found, wanted) == pytest.approx(10 * np.log10(16 / (0.01 / 3)), abs=1e-4)


def test_the_contact_sheet_shows_both_sets_and_their_amplified_difference(tmp_path: Path) -> None:
    first = np.full((10, 64, 64, 3), 100, np.uint8)
    last = first.copy()
    last[2, :, :, 0] += 20
    draw_contact_sheet([("PyTorch", first), ("exported", last)], tmp_path / "sheet.png", most=4, gain=4)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    row = 16 + 128  # a title and pictures at twice their size
    assert sheet.shape == (3 * row, 4 * 128, 3)
    centres = [sheet[i * row + 16 + 64, 128 * np.arange(4) + 64] for i in range(3)]
    assert centres[0].tolist() == [[100, 100, 100]] * 4
    assert centres[1].tolist() == [[100, 100, 100], [100, 100, 100], [120, 100, 100], [100, 100, 100]]
    assert centres[2].tolist() == [[0, 0, 0], [0, 0, 0], [80, 0, 0], [0, 0, 0]]
