"""A folder of pictures that another program drew: what is read of it, and every way in which it may be wrong."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sprint_export.errors import InputError
from sprint_export.validate.comparing.entries.picture_folder import ENTRY, PictureEntry
from sprint_export.validate.comparing.entry import find_kind
from tests.validate.comparing.doubles import PIXELS, PROMPTS, SIDE, make_pictures, make_setting, write_pictures

NOISE = np.zeros((1, 1, 4, 2, 2), np.float32)


def test_pictures_come_back_as_they_were_saved_with_the_seconds_that_the_file_says(tmp_path: Path) -> None:
    pictures = make_pictures()
    rows = [{"prompt": prompt, "seed": 5 + i, "seconds": 0.5 + i} for i, prompt in enumerate(PROMPTS)]
    folder = write_pictures(tmp_path / "theirs", pictures, {"title": "their tool", "bytes": 123, "pictures": rows})
    entry = ENTRY.open(folder, make_setting(seed=5))
    drawn = [entry.draw(i, prompt, NOISE) for i, prompt in enumerate(PROMPTS)]
    assert np.array_equal(np.stack([each.picture for each in drawn]), pictures)
    assert [each.seconds for each in drawn] == [0.5, 1.5, 2.5]
    assert (entry.description, entry.bytes, entry.is_measured) == ("their tool", 123, False)


def test_more_may_follow_the_number_and_prompts_may_be_a_plain_list(tmp_path: Path) -> None:
    pictures = make_pictures()
    folder = write_pictures(tmp_path / "theirs", pictures, list(PROMPTS))
    for place in range(len(PROMPTS)):
        (folder / f"{place}.png").rename(folder / f"00{place}-a-red-circle-7.png")
    entry = ENTRY.open(folder, make_setting())
    assert isinstance(entry, PictureEntry)
    assert np.array_equal(entry.draw(2, PROMPTS[2], NOISE).picture, pictures[2])
    assert entry.draw(2, PROMPTS[2], NOISE).seconds is None


def test_fewer_prompts_of_a_larger_folder_can_be_compared(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "theirs", make_pictures())
    assert ENTRY.open(folder, make_setting(PROMPTS[:2])).draw(1, PROMPTS[1], NOISE).picture.shape == (*PIXELS, 3)


def _remove(folder: Path) -> None:
    (folder / "1.png").unlink()


def _forget_prompts(folder: Path) -> None:
    (folder / "prompts.txt").unlink()


def _shorten_prompts(folder: Path) -> None:
    (folder / "prompts.txt").write_text(PROMPTS[0])


def _change_prompt(folder: Path) -> None:
    (folder / "prompts.txt").write_text("\n".join([PROMPTS[0], "a cat", PROMPTS[2]]))


def _resize(folder: Path) -> None:
    Image.open(folder / "1.png").resize((48, 16)).save(folder / "1.png")


def _claim_giant(folder: Path) -> None:
    """A PNG of a few bytes whose head says 100,000 x 100,000."""
    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(head)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (folder / "1.png").write_bytes(data + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))


def _grow(folder: Path) -> None:
    os.truncate(folder / "1.png", 1 << 30)  # sparse: takes no space


def _damage(folder: Path) -> None:
    (folder / "1.png").write_text("no picture")


def _hide_program(folder: Path) -> None:
    """PostScript, for which Pillow would run Ghostscript."""
    (folder / "1.png").write_text(f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 {SIDE} {SIDE}\n%%EndComments\nshowpage\n%%EOF\n")


def _link(folder: Path) -> None:
    (folder / "1.png").rename(folder.parent / "elsewhere.png")
    (folder / "1.png").symlink_to(folder.parent / "elsewhere.png")


def _link_prompts(folder: Path) -> None:
    (folder / "prompts.txt").rename(folder.parent / "elsewhere.txt")
    (folder / "prompts.txt").symlink_to(folder.parent / "elsewhere.txt")


def _make_pipe(folder: Path) -> None:
    (folder / "1.png").unlink()
    os.mkfifo(folder / "1.png")


def _draw_twice(folder: Path) -> None:
    (folder / "01-again.png").write_bytes((folder / "1.png").read_bytes())


WRONG: dict[Callable[[Path], None], tuple[str, ...]] = {
    _remove: ("2 of 3 prompts", "none of 1", "0.png", "expected 0.png to 2.png"),
    _forget_prompts: ("prompts.txt", "prompts.json", "0.png"),
    _shorten_prompts: ("1 prompts", "comparison 3", "--count 1"),
    _change_prompt: ("prompt 1 is 'a cat'", "'a blue square'", "--prompts"),
    _resize: ("48 x 16", f"{SIDE} x {SIDE}"),
    _claim_giant: ("1.png", f"{SIDE} x {SIDE}"),
    _grow: ("1,073,741,824 bytes", "expected at most"),
    _damage: ("1.png is no picture",),
    _hide_program: ("1.png is no picture",),
    _link: ("1.png is a link",),
    _link_prompts: ("prompts.txt is a link",),
    _make_pipe: ("1.png is no regular file",),
    _draw_twice: ("two pictures of prompt 1", "01-again.png", "1.png"),
}


@pytest.mark.parametrize("damage", WRONG, ids=lambda damage: damage.__name__.strip("_"))
def test_a_folder_that_does_not_fit_is_refused_with_what_was_found_and_expected(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = write_pictures(tmp_path / "theirs", make_pictures())
    damage(folder)
    with pytest.raises(InputError) as refused:
        ENTRY.open(folder, make_setting())
    assert all(part in str(refused.value) for part in WRONG[damage]), refused.value


ROW = {"prompt": PROMPTS[0]}


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        ({"pictures": "none"}, "expected a list"),
        ({"pictures": [{"seed": 1}]}, "picture 0: expected a prompt"),
        ({"pictures": [ROW | {"seed": "x"}]}, "seed: expected a whole number"),
        ({"pictures": [ROW | {"seconds": -1}]}, "seconds: expected a number above 0"),
        ({"pictures": [ROW], "bytes": -5}, "bytes: expected a whole number"),
        ({"pictures": [ROW], "title": 7}, "title: expected a text"),
        ({"pictures": [{"prompt": prompt, "seed": 40} for prompt in PROMPTS]}, "drawn from seed 40"),
    ],
)
def test_a_file_of_prompts_in_another_form_is_refused_in_one_sentence(rows: object, part: str, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "theirs", make_pictures(), rows)
    with pytest.raises(InputError, match=part):
        ENTRY.open(folder, make_setting())


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[" * 100_000,
        '[{"prompt": "a", "seconds": NaN}]',
        f'[{{"prompt": "a", "seconds": {10**400}}}]',
        f'{{"bytes": {10**400}, "pictures": []}}',
    ],
)
def test_what_is_no_json_is_refused(text: str, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "theirs", make_pictures())
    (folder / "prompts.json").write_text(text)
    with pytest.raises(InputError, match=r"prompts\.json is no JSON"):
        ENTRY.open(folder, make_setting())


def test_the_kind_is_found_by_the_names_of_files(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "theirs", make_pictures())
    assert find_kind(folder).name == "pictures"
    (folder / "bundle.json").write_text("{}")
    assert find_kind(folder).name == "bundle"


def test_a_folder_of_nothing_known_lists_what_there_is_and_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(InputError) as refused:
        find_kind(tmp_path)
    for part in ("notes.md", "bundle.json", "model_index.json", "prompts.txt", "openvino_model.xml"):
        assert part in str(refused.value)
    with pytest.raises(InputError, match="is a file"):
        find_kind(tmp_path / "notes.md")
    with pytest.raises(InputError, match="is not there"):
        find_kind(tmp_path / "nothing")


def test_json_with_more_prompts_than_pictures_names_the_missing_ones(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "theirs", make_pictures(1), list(PROMPTS))
    assert len(json.loads((folder / "prompts.json").read_text())) == len(PROMPTS)
    with pytest.raises(InputError, match="1 of 3 prompts; none of 1, 2"):
        ENTRY.open(folder, make_setting())
