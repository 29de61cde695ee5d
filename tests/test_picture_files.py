"""Names of pictures and what joins them, without a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sprint_export.errors import InputError
from sprint_export.picture_files import GAP, join_pictures, name_pictures, shorten_prompt


def test_names_are_numbered_only_where_nothing_else_tells_them_apart(tmp_path: Path) -> None:
    def names(pattern: str, count: int) -> list[str]:
        return [path.name for path in name_pictures(tmp_path / pattern, ["a b"] * count, range(3, 3 + count))]

    assert names("a.png", 1) == ["a.png"]
    assert names("a.png", 2) == ["a-0.png", "a-1.png"]
    assert names("a.png", 11)[-2:] == ["a-09.png", "a-10.png"], "sorted by name they are in order"
    assert names("{seed}-{prompt}.png", 2) == ["3-a-b.png", "4-a-b.png"]
    with pytest.raises(InputError, match=r"a-b\.png to two pictures"):
        names("{prompt}.png", 2)


def test_a_prompt_makes_a_name_that_every_system_takes() -> None:
    assert shorten_prompt("A red/blue: circle?!") == "a-red-blue-circle"
    assert shorten_prompt("../..") == "picture"
    assert len(shorten_prompt("word " * 100)) <= 60
    assert shorten_prompt("красный круг") == "красный-круг"


def test_a_grid_holds_every_picture_and_white_where_there_is_none() -> None:
    pictures = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 2, 3, 3), np.uint8)
    grid = join_pictures(pictures)
    assert grid.shape == (2 * 2 + GAP, 3 * 3 + 2 * GAP, 3)
    assert (grid[2 + GAP :, 3 + GAP : 6 + GAP] == 4).all()
    assert (grid[2 + GAP :, 6 + 2 * GAP :] == 255).all()
