"""Pictures that a caller gives, of any kind that Pillow reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sprint_export.pictures import read_pictures


@pytest.mark.parametrize("is_file", [True, False])
def test_sixteen_bits_of_grey_keep_their_upper_eight(is_file: bool, tmp_path: Path) -> None:
    """A depth map: Pillow's own conversion makes it white where it is above 255 of 65,535."""
    depth = np.linspace(0, 65535, 48, dtype=np.uint16).reshape(6, 8)
    picture = Image.fromarray(depth)
    picture.save(tmp_path / "depth.png")
    found = read_pictures("control", tmp_path / "depth.png" if is_file else picture, 1, 6, 8)
    wanted = np.float32(2) * ((depth >> 8).astype(np.float32) / np.float32(255)) - np.float32(1)
    np.testing.assert_array_equal(found[0], np.stack([wanted] * 3))
