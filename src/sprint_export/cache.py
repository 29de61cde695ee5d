"""Where what was measured is kept between runs: a folder a kind of figure, files that are whole or absent.

Runs share the cache without locks: two that measure the same thing write the same file, each beside its own part.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from sprint_export.disk_errors import clear_disk_errors
from sprint_export.errors import MachineError
from sprint_export.files import sweep_parts, write_whole

VARIABLE = "SPRINT_EXPORT_CACHE"
ADVICE = f"measured figures are kept there; set {VARIABLE} to a folder that can be written to"


def cache_folder() -> Path:
    """$SPRINT_EXPORT_CACHE, else ~/.cache/sprint-export.

    Raises:
        MachineError: neither is known.
    """
    named = os.environ.get(VARIABLE)
    return Path(named) if named else _find_home() / ".cache" / "sprint-export"


def _find_home() -> Path:
    """The user's home; an empty or relative $HOME is none, or the cache would lie wherever one works."""
    if os.name == "nt":
        return Path.home()
    named = Path(os.environ.get("HOME", ""))
    if named.is_absolute():
        return named
    import pwd

    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError as error:
        raise MachineError(f"there is no home for the cache: HOME is not set; set {VARIABLE} to a folder") from error


def open_cache(kind: str) -> Path:
    """The folder of a kind of figure, made where it is missing; parts of runs that were killed are swept.

    Raises:
        MachineError: it cannot be written to; the message names the cache and how to move it.
    """
    folder = cache_folder() / kind
    with clear_cache_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for each in (folder, *(path for path in folder.iterdir() if path.is_dir())):
            sweep_parts(each)
    return folder


def hash_question(parts: object) -> str:
    """sha256 of the JSON values that decide a figure, to name its file by."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def write_cached(path: Path, write: Callable[[Path], object]) -> None:
    """`write_whole` into the cache.

    Raises:
        MachineError: the cache cannot be written to, or its disk is full.
    """
    with clear_cache_errors(path):
        write_whole(path, write)


def clear_cache_errors(path: Path) -> AbstractContextManager[None]:
    """What its disk refuses names the cache, not --out."""
    return clear_disk_errors(path, ADVICE, MachineError)
