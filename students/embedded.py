"""Embedded students that share parts: a folder with what is its own, and `shares.txt` with the name of the one beside it.

The stock classes want one folder with all parts, and a wheel holds neither links nor a second copy; so the whole folder is made
in the cache when it is first asked for, a few megabytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from sprint_export.cache import clear_cache_errors, hash_question, open_cache
from sprint_export.files import name_part, remove, settle_folder
from sprint_export.paths import is_file, is_folder
from sprint_export.students.folder import hash_file

SHARES = "shares.txt"
TAKEN = (".json", ".safetensors", ".txt", ".md")


def complete_folder(folder: Path) -> Path:
    """An embedded student's folder with all its parts.

    Raises:
        MachineError: the cache cannot be written to.
    """
    if not is_file(folder / SHARES):
        return folder
    other = folder.parent / (folder / SHARES).read_text("utf-8").strip()
    taken = {path.name: path for path in (*_list(other), *_list(folder))}
    key = _hash_parts(taken)
    whole = open_cache("students") / f"{folder.name}-{key[:16]}"
    if is_folder(whole):
        if _hash_parts({path.name: path for path in _list(whole)}) == key:
            return whole
        remove(whole)  # a disk damaged it, or somebody changed it
    part = name_part(whole)
    with clear_cache_errors(whole):
        try:
            part.mkdir()
            for name, path in taken.items():
                (shutil.copyfile if is_file(path) else shutil.copytree)(path, part / name)
            settle_folder(part)
            part.replace(whole)
        except OSError:  # of a folder that another run has just made
            if not is_folder(whole):
                raise
        finally:
            remove(part)
    return whole


def _hash_parts(parts: Mapping[str, Path]) -> str:
    """Of the names and contents of a student's files, and of those in its folders."""
    files = {name: [path] if is_file(path) else sorted(path.iterdir()) for name, path in parts.items()}
    named = {name: [[path.name, hash_file(path).hex()] for path in files[name]] for name in sorted(files)}
    return hash_question(named)


def _list(folder: Path) -> list[Path]:
    """A student's files and folders of files, without code."""
    entries = [path for path in sorted(folder.iterdir()) if path.name != SHARES and not path.name.startswith((".", "_"))]
    return [path for path in entries if path.suffix in TAKEN or is_folder(path)]
