"""Reports in a folder of the user's: one of this package's is replaced by the next, anything else of its name is somebody's.

*.html   says in its head that this package generated it
*.json   begins with `format`, as every report of this package does
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from sprint_export.errors import InputError

HEAD = 4096  # bytes
MARKS = {".html": b'<meta name="generator" content="sprint-export ', ".json": b'{\n "format": '}


def check_own_files(folder: Path, names: Iterable[str]) -> None:
    """Refuse to replace what this package did not write, before any work.

    Raises:
        InputError: a file of one of these names is another program's, or no file; the message names all.
    """
    foreign = [name for name in names if not _is_ours(folder / name)]
    if foreign:
        raise InputError(
            f"--out {folder} holds {', '.join(foreign)}, which sprint-export did not write and would replace; choose another "
            "folder"
        )


def _is_ours(path: Path) -> bool:
    """Whether nothing is there, or a file with the mark of its kind."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open("rb") as file:
            return MARKS[path.suffix] in file.read(HEAD)
    except OSError:
        return True  # nothing there, or a place that cannot be written to, which is said then
