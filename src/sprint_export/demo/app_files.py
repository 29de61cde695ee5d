"""Which files of a bundle a page needs: what its app.json names, checked before any of it is served.

A bundle, unpacked or packed, is untrusted: paths stay inside it, links are refused, sizes and sha256 are compared.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sprint_export.bundle_files import LONGEST_MANIFEST, MANIFEST
from sprint_export.errors import BundleError, InputError
from sprint_export.export.bundle import find_file, read_manifest
from sprint_export.export.safe_files import FileError, check_way, find_path_fault, hash_bytes, open_checked
from sprint_export.paths import is_file, is_folder
from sprint_export.registry import load_target
from sprint_export.strict_json import parse_json

APP = "app.json"
NOTICES = "LICENCES.txt"  # of a packed folder: goes where its files go
MOST_BYTES = 4 << 20  # of app.json and of reference.json
MOST_FILES = 10_000
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class AppFile:
    """One file of a bundle, by its path below the bundle's folder."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class App:
    """A bundle as an app sees it.

    `files` ship with an app, app.json among them; `references` are there to compare with, the manifest among them, which says
    of which bundle a page's result is. `runtimes`: library -> oldest version.
    """

    folder: Path
    name: str
    target: str
    runtimes: dict[str, str]
    files: tuple[AppFile, ...]
    references: tuple[AppFile, ...]
    prompts: tuple[str, ...]  # of the references, and its examples


def read_app(folder: Path) -> App:
    """Read a bundle's app.json and compare every file that it names with its size and sha256.

    Raises:
        InputError: there is no bundle, or it has no app.json. BundleError: it says what cannot be, or a file differs.
    """
    if not is_folder(folder):
        raise InputError(f"{folder} is not there; expected the folder of a bundle")
    value = _read_json(folder, APP)
    if value is None:
        raise InputError(f"{folder} has no {APP}, which says what an app needs: {_explain_lack(folder)}")
    fields = _check_fields(folder, value)
    _check_named(folder)
    files = _read_entries(folder, value["files"])
    for file in files:
        _compare(folder, file)
    references, prompts = _read_references(folder, value.get("reference"))
    examples = [text for text in value.get("examples") or () if isinstance(text, str)]
    beside = (APP, NOTICES) if is_file(folder / NOTICES) else (APP,)
    files = (*(_describe(folder, path) for path in beside), *files)
    if references and is_file(folder / MANIFEST):
        references = (*references, _describe(folder, MANIFEST, LONGEST_MANIFEST))
    return App(folder, **fields, files=files, references=references, prompts=(*prompts, *examples))


def _explain_lack(folder: Path) -> str:
    """Why a bundle has none, as its manifest says, and what to do."""
    if not is_file(folder / MANIFEST):
        return "expected the folder of a bundle"
    bundle = read_manifest(folder)
    if (reason := load_target(bundle.target).refuse_app(bundle.options)) is not None:
        return f"{reason} when the student is exported"
    if missing := bundle.chain.list_missing([record.role for record in bundle.components]):
        return f"it was exported with --component, without {', '.join(missing)}, and draws no pictures"
    return "make the bundle again with this version"


def _check_fields(folder: Path, value: Any) -> dict[str, Any]:
    """Name, target and runtimes, where they are what they have to be."""
    kinds = {"name": str, "target": str, "runtimes": dict, "files": list}
    wrong = [key for key, kind in kinds.items() if not (isinstance(value, dict) and isinstance(value.get(key), kind))]
    if wrong or len(value["files"]) > MOST_FILES or not all(isinstance(each, str) for each in value["runtimes"].values()):
        raise BundleError(
            f"{folder / APP}: {', '.join(wrong) or 'files or runtimes'} cannot be; expected what this package writes"
        )
    return {key: value[key] for key in ("name", "target", "runtimes")}


def _check_named(folder: Path) -> None:
    """Where the manifest lies beside it, which knows itself by its hash: app.json is the one that it names."""
    if is_file(folder / MANIFEST):
        named, found = find_file(read_manifest(folder), APP), _describe(folder, APP)
        if named is None or (named.bytes, named.sha256) != (found.bytes, found.sha256):
            raise BundleError(
                f"{folder / APP} is not the one that {MANIFEST} names; it was altered: make or fetch the bundle again"
            )


def _read_entries(folder: Path, entries: list[Any]) -> tuple[AppFile, ...]:
    """Every file once: it is hashed as often as it is named."""
    files = tuple(_read_entry(folder, entry) for entry in entries)
    twice = [path for path, count in Counter(file.path for file in files).items() if count > 1]
    if twice:
        raise BundleError(f"{folder / APP} names {twice[0]!r} twice; expected every file once")
    return files


def _read_entry(folder: Path, entry: Any) -> AppFile:
    path, size, digest = (entry.get(key) if isinstance(entry, dict) else None for key in ("path", "bytes", "sha256"))
    is_sound = isinstance(path, str) and type(size) is int and isinstance(digest, str) and SHA256.fullmatch(digest)
    if not is_sound:
        raise BundleError(f"{folder / APP}: a file is {str(entry)[:200]}; expected path, bytes and sha256")
    return AppFile(str(path), int(str(size)), str(digest))


def _compare(folder: Path, file: AppFile) -> None:
    found = _describe(folder, file.path, file.bytes)
    if found != file:
        what = f"{found.bytes} bytes, expected {file.bytes}" if found.bytes != file.bytes else "another sha256 than it should"
        raise BundleError(f"{folder / file.path} has {what}; it was damaged or altered: make or fetch the bundle again")


def _describe(folder: Path, path: str, most: int = MOST_BYTES) -> AppFile:
    """Size and sha256 of a file as it lies there; of a larger one than `most` bytes its beginning is hashed."""
    fault = find_path_fault(path)
    try:
        if fault is not None:
            raise FileError(fault)
        size = check_way(folder, path).st_size
        with open_checked(folder, path) as file:
            return AppFile(path, size, hash_bytes(file, most))
    except FileNotFoundError as error:
        raise BundleError(f"{folder} lacks {path!r}, which its {APP} names; make or fetch the bundle again") from error
    except FileError as error:
        raise BundleError(f"{folder}: {path!r} {error}") from error


def _read_references(folder: Path, path: Any) -> tuple[tuple[AppFile, ...], tuple[str, ...]]:
    """The reference's own file, the files that it names, and its prompts."""
    if path is None:
        return (), ()
    if not isinstance(path, str):
        raise BundleError(f"{folder / APP}: reference is {path!r}; expected a path or null")
    main = _describe(folder, path)
    value = _read_json(folder, path)
    named = dict.fromkeys(_find_values(value, "file"))
    prompts = tuple(dict.fromkeys(_find_values(value, "prompt")))
    return (main, *(_describe(folder, name, 1 << 30) for name in named)), prompts


def _find_values(value: Any, key: str) -> Iterator[str]:
    """All texts that stand under a key, at any depth."""
    todo = deque([value])
    while todo:
        found = todo.popleft()
        if isinstance(found, dict):
            if isinstance(found.get(key), str):
                yield found[key]
            todo += found.values()
        elif isinstance(found, list):
            todo += found


def _read_json(folder: Path, path: str) -> Any:
    """The value of a JSON file, or None where there is no such file."""
    try:
        if (fault := find_path_fault(path)) is not None:
            raise FileError(fault)
        with open_checked(folder, path) as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise FileError(f"has more than {MOST_BYTES} bytes")
        return parse_json(data)
    except FileNotFoundError:
        return None
    except (FileError, ValueError) as error:
        raise BundleError(f"{folder / path}: {error}") from error
