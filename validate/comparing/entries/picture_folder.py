"""A folder of pictures that any program drew: `0.png`, `1-a-red-circle.png`, ..., named by the prompt's place, and the prompts.

    prompts.txt     one prompt a line; or
    prompts.json    [{"prompt": "...", "seed": 0, "seconds": 0.31}, ...], or {"title": "...", "bytes": 1234, "pictures": [...]}

Only regular files in the folder itself are opened: a link could bring any picture of this machine into a report. A size is read
from a file's head before its pixels are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.errors import InputError
from sprint_export.paths import read_user_text
from sprint_export.pictures import open_picture, read_picture
from sprint_export.strict_json import parse_json
from sprint_export.validate.comparing.entry import MOST_LISTED, Drawn, Entry, EntryKind, Setting, list_names

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

TEXT, JSON = "prompts.txt", "prompts.json"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MOST_FILES = 100_000  # in a folder
BYTES_A_PIXEL = 16  # of a file, at most: uncompressed 16-bit RGBA has 8
HEAD_BYTES = 1 << 20  # beside the pixels: colour profile, texts
LONGEST_TITLE = 200
_NAME = re.compile(r"(?P<place>\d{1,9})(?!\d)[^/]*")
FIELDS = ("prompt", "seed", "seconds")


@dataclass(frozen=True)
class Said:
    """What a folder says of itself: prompts by place, the seed and the seconds of each where it says so, a title, bytes."""

    file: str
    prompts: tuple[str, ...]
    seeds: tuple[int | None, ...]
    seconds: tuple[float | None, ...]
    title: str = ""
    bytes: int | None = None


class PictureFolders(EntryKind):
    """Folders of pictures."""

    title, holds = "a folder of pictures", f"0.png, 1.png, ... and {TEXT} or {JSON}"

    def opens(self, folder: Path) -> bool:
        if (folder / TEXT).is_file() or (folder / JSON).is_file():
            return True
        return any(path.suffix.lower() in SUFFIXES and _NAME.fullmatch(path.stem) for path in folder.iterdir())

    def open(self, folder: Path, setting: Setting) -> Entry:
        said = read_said(folder)
        _check_said(folder, said, setting)
        files = find_pictures(folder, len(setting.prompts))
        for file in files:
            check_picture(file, setting.pixels)
        return PictureEntry(tuple(files), said, said.title or "pictures drawn elsewhere", said.bytes)


@dataclass
class PictureEntry(Entry):
    """The pictures."""

    files: tuple[Path, ...]
    said: Said
    description: str
    bytes: int | None
    is_measured: bool = False

    def draw(self, place: int, prompt: str, noise: npt.NDArray[np.float32]) -> Drawn:
        import numpy as np

        return Drawn(np.asarray(read_picture("picture", self.files[place]), np.uint8), self.said.seconds[place])


def read_said(folder: Path) -> Said:
    """The prompts of a folder of pictures, and what else it says.

    Raises:
        InputError: it has no prompts, or they are not of the form above.
    """
    for name, read in ((JSON, _read_json), (TEXT, _read_text)):
        path = folder / name
        if path.is_symlink():
            raise InputError(f"{path} is a link; expected the file itself, copied into the folder")
        if path.exists():
            return read(name, read_user_text("prompts", path), path)
    raise InputError(
        f"{folder} holds {list_names(folder)}, and neither {TEXT} nor {JSON}: expected the prompts that its pictures were drawn "
        f"from, one a line, the prompt of 0.png first"
    )


def _read_text(name: str, text: str, path: Path) -> Said:
    prompts = tuple(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return Said(name, prompts, (None,) * len(prompts), (None,) * len(prompts))


def _read_json(name: str, text: str, path: Path) -> Said:
    try:
        value = parse_json(text.encode())
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error})") from error
    whole: Mapping[str, Any] = value if isinstance(value, dict) else {"pictures": value}
    rows = whole.get("pictures")
    if not isinstance(rows, list):
        raise InputError(f"{path}: expected a list of pictures, or an object with `pictures`; found {type(rows).__name__}")
    each = [_read_row(path, i, row) for i, row in enumerate(rows)]
    title, size = whole.get("title", ""), whole.get("bytes")
    if not isinstance(title, str):
        raise InputError(f"{path}: title: expected a text, found {type(title).__name__}")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
        raise InputError(f"{path}: bytes: expected a whole number from 0, found {str(size)[:40]}")
    prompts, seeds, seconds = (tuple(column) for column in zip(*each, strict=True)) if each else ((), (), ())
    return Said(name, prompts, seeds, seconds, title[:LONGEST_TITLE], size)


def _read_row(path: Path, i: int, row: Any) -> tuple[str, int | None, float | None]:
    row = {"prompt": row} if isinstance(row, str) else row
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
        raise InputError(f"{path}: picture {i}: expected a prompt, or an object with {', '.join(FIELDS)}")
    seed, seconds = row.get("seed"), row.get("seconds")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise InputError(f"{path}: picture {i}: seed: expected a whole number, found {str(seed)[:40]!r}")
    is_time = isinstance(seconds, int | float) and not isinstance(seconds, bool) and math.isfinite(seconds) and seconds > 0
    if seconds is not None and not is_time:
        raise InputError(f"{path}: picture {i}: seconds: expected a number above 0, found {str(seconds)[:40]!r}")
    return row["prompt"].strip(), seed, None if seconds is None else float(seconds)


def _check_said(folder: Path, said: Said, setting: Setting) -> None:
    """Whether a folder's pictures were drawn from the prompts and seeds of this comparison.

    Raises:
        InputError: they were not; the first that differs is shown.
    """
    wanted = setting.prompts
    if len(said.prompts) < len(wanted):
        raise InputError(
            f"{folder / said.file} has {len(said.prompts)} prompts, this comparison {len(wanted)}; draw the rest, or compare "
            f"fewer: --count {max(1, len(said.prompts))}"
        )
    for i, (found, prompt) in enumerate(zip(said.prompts, wanted, strict=False)):
        if found != prompt.strip():
            raise InputError(
                f"{folder / said.file}: prompt {i} is {_shorten(found)!r}, this comparison's is {_shorten(prompt)!r}; give the "
                f"prompts that its pictures were drawn from: --prompts FILE, one a line"
            )
        if said.seeds[i] not in (None, setting.seed + i):
            raise InputError(
                f"{folder / said.file}: picture {i} was drawn from seed {said.seeds[i]}, this comparison draws it from "
                f"{setting.seed + i}; other noise is another picture: draw it from that seed, or give --seed"
            )


def find_pictures(folder: Path, count: int) -> Sequence[Path]:
    """The picture of each of the first `count` places.

    Raises:
        InputError: one is missing, there twice, or a link; the message lists what was found.
    """
    found: dict[int, Path] = {}
    for i, path in enumerate(sorted(folder.iterdir())):
        if i >= MOST_FILES:
            raise InputError(f"{folder} holds more than {MOST_FILES:,} files; expected pictures and their prompts")
        match = _NAME.fullmatch(path.stem) if path.suffix.lower() in SUFFIXES else None
        if match is None or int(match["place"]) >= count:
            continue
        if path.is_symlink() or not path.is_file():
            what = "a link" if path.is_symlink() else "no regular file"
            raise InputError(f"{path} is {what}; expected the picture itself, copied into the folder")
        place = int(match["place"])
        if place in found:
            raise InputError(f"{folder} has two pictures of prompt {place}: {found[place].name} and {path.name}; remove one")
        found[place] = path
    missing = [place for place in range(count) if place not in found]
    if missing:
        listed = ", ".join(map(str, missing[:MOST_LISTED])) + (" ..." if len(missing) > MOST_LISTED else "")
        raise InputError(
            f"{folder} has pictures of {len(found)} of {count} prompts; none of {listed}. Found {list_names(folder)}; expected "
            f"0.png to {count - 1}.png ({', '.join(SUFFIXES)}; more may follow the number: 3-a-red-circle.png)"
        )
    return [found[place] for place in range(count)]


def check_picture(path: Path, pixels: tuple[int, int]) -> None:
    """Whether a file's head says that it is a picture of this height and width; no pixel is read.

    Raises:
        InputError: it is not.
    """
    height, width = pixels
    most = height * width * BYTES_A_PIXEL + HEAD_BYTES
    size = path.stat().st_size
    if size > most:
        raise InputError(f"{path} has {size:,} bytes, expected at most {most:,} of {width} x {height} pixels")
    with open_picture("picture", path, f"a whole one of {width} x {height} pixels") as file:
        found = file.size
    if found != (width, height):
        raise InputError(
            f"{path} has {found[0]} x {found[1]} pixels, the reference {width} x {height}: expected pictures of the student's "
            "own size; a resized one cannot be compared pixel by pixel"
        )


def _shorten(text: str, most: int = 80) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


ENTRY = PictureFolders(name="pictures")
