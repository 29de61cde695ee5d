"""Files of JSON that a set of prompts is made of, read with bounds; what is wrong is told by its line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sprint_export.errors import InputError
from sprint_export.paths import is_folder, read_user_text
from sprint_export.strict_json import parse_json
from sprint_export.validate.prompt_sets.prompt_set import check_inside


def find_lines(where: str, path: Path, name: str) -> Path:
    """The file itself, or the one of that name in its folder.

    Raises:
        InputError: that is a link out of the folder.
    """
    if not is_folder(path):
        return path
    check_inside(where, path, [path / name])
    return path / name


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(the file and the line's number, its object) of each line that is not empty.

    Raises:
        InputError: the file cannot be read, or a line is no JSON object.
    """
    for number, line in enumerate(read_user_text("--prompts", path).split("\n"), 1):  # texts may hold other line ends
        if line.strip():
            yield f"--prompts {path}, line {number}", read_object(f"--prompts {path}, line {number}", line)


def read_object(where: str, text: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: it is none; the message begins with `where`.
    """
    try:
        value = parse_json(text.encode())
    except ValueError as error:
        raise InputError(f"{where}: cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{where}: holds {type(value).__name__}, expected an object")
    return value


def take(where: str, value: dict[str, Any], key: str, kind: type, default: Any = None) -> Any:
    """A field of an object, of a type; `default` where it is left out.

    Raises:
        InputError: it is of another type, or left out without a default.
    """
    found = value.get(key, default)
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        what = "is missing" if key not in value else f"is {type(found).__name__}"
        raise InputError(f"{where}: {key!r} {what}, expected {kind.__name__}")
    return found
