"""Picture metrics beside scikit-image and beside arithmetic done by hand, and the contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import metrics

from sprint_export.psnr import CAP_DB, psnr_images
from sprint_export.validate.confidence.means import mean_interval
from sprint_export.validate.images import draw_contact_sheet, psnr_arrays, relative_error, ssim_images
from sprint_export.validate.measure import compare_pictures, find_worst, list_pictures

SKIMAGE: Any = metrics  # untyped
RNG = np.random.default_rng(0)
WANTED = RNG.integers(0, 256, (3, 32, 40, 3), dtype=np.uint8)
FOUND = np.clip(WANTED.astype(int) + RNG.integers(-9, 10, WANTED.shape), 0, 255).astype(np.uint8)


def test_psnr_of_every_picture_is_scikit_images() -> None:
    expected = [SKIMAGE.peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(WANTED, FOUND, strict=True)]
    np.testing.assert_allclose(psnr_images(FOUND, WANTED), expected, rtol=1e-12)


def test_psnr_is_what_it_is_by_hand() -> None:
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


def test_rows_of_pictures_say_on_how_many_they_stand() -> None:
    """Three pictures, of which torch's rounded side drew one."""
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 256, (3, 16, 16, 3), np.uint8)
    exported = np.clip(reference.astype(int) + rng.integers(-9, 10, reference.shape), 0, 255).astype(np.uint8)
    samples = compare_pictures(exported, reference[:1], reference, is_fed=True)
    rows = {each.metric: each.as_row() for each in samples}
    assert rows["psnr_db"].note == "exported vs PyTorch float32, mean over 3 pictures"
    assert rows["psnr_db"].interval == mean_interval(psnr_images(exported, reference))
    assert rows["recipe_image_psnr_db"].value == 100.0
    assert rows["converter_image_psnr_db"].value == psnr_images(exported[:1], reference[:1])[0]
    assert rows["converter_image_psnr_db"].interval is None
    assert "1 picture: the last network's part; each network was fed" in rows["converter_image_psnr_db"].note
    assert "number" not in rows["psnr_db"].note
    worst = find_worst(samples[0])
    assert worst.value == psnr_images(exported, reference).min()
    assert worst.note.endswith("at 95 %, that 36.8 % or more have no worse a picture"), "the third root of 0.05"
    pictures = list_pictures(["a", "b", "c"], samples, [(), ("flips",), ()])
    assert [(row.place, row.prompt, row.flipped) for row in pictures] == [(0, "a", ()), (1, "b", ("flips",)), (2, "c", ())]
    assert [row.figures["psnr_db"] for row in pictures] == psnr_images(exported, reference).tolist()
    assert set(pictures[0].figures) == {"psnr_db", "ssim"}, "of the other two there is one picture alone"
