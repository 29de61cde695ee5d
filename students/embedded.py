"""Embedded students that share parts: a folder with what is its own, and `shares.txt` with the name of the one beside it.

The stock classes want one folder with all parts, and a wheel holds neither links nor a second copy; so the whole folder is made
in the cache when it is first asked for, a few megabytes.
"""

from __future__ import annotations

import shutil
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
    files = {name: [path] if is_file(path) else sorted(path.iterdir()) for name, path in taken.items()}
    key = hash_question({name: [[path.name, hash_file(path).hex()] for path in paths] for name, paths in files.items()})
    whole = open_cache("students") / f"{folder.name}-{key[:16]}"
    if is_folder(whole):
        return whole
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


def _list(folder: Path) -> list[Path]:
    """A student's files and folders of files, without code."""
    entries = [path for path in sorted(folder.iterdir()) if path.name != SHARES and not path.name.startswith((".", "_"))]
    return [path for path in entries if path.suffix in TAKEN or is_folder(path)]
