"""Which files of a folder are a bundle's: what its manifest names, and the few that are written without being named.

Replacing a bundle removes these and nothing else. A manifest that cannot be read names nothing; then the names that exporters
give count, so that a damaged bundle can be replaced. Links, devices and whatever is no plain file are nobody's but the user's.
"""

from __future__ import annotations

import contextlib
import json
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sprint_export.errors import InputError
from sprint_export.files import PART, list_tree, remove, sweep_parts
from sprint_export.registry import list_members, load_member, load_target

MANIFEST = "bundle.json"
CARD = "README.md"  # the model card (validate/model_card.py), known by its mark
CARD_MARK = "<!-- made by sprint-export from bundle.json and report.json; a validation writes it anew -->"
LONGEST_HEAD = 4096  # bytes of a card in which the mark stands
APP = "app.json"  # what an app needs (app_contract.py)
REFERENCE_FOLDER, REFERENCE = "reference", "reference/reference.json"  # what it should get
TOKENIZER = "tokenizer/tokenizer.json"
LICENCES = "LICENCES.txt"  # of a packed folder
REPORT, PAGE, SHEET = "report.json", "report.html", "contact_sheet.png"  # validation writes them beside the manifest
LONGEST_MANIFEST = 16 << 20  # bytes; a full-size student's has under one million
SHOWN = 3  # foreign files in a message

_BUILT = r"{role}/{built}"
_UNNAMED = (  # validation's, a killed build's, and what bundles of format 4 and before did not name
    rf"{re.escape(REPORT)}|{re.escape(PAGE)}|{re.escape(SHEET)}|{re.escape(APP)}|{re.escape(LICENCES)}|{_BUILT}"
    rf"|{REFERENCE_FOLDER}/(reference\.json|(picture(_[1-9])?|further_[1-9])\.png|values\.safetensors)"
    r"|{role}/(config|component)\.json|model_index\.json|scheduler/scheduler_config\.json"
)
_GIVEN = (  # by exporters
    r"{role}/({exported}|quantization\.safetensors)"
    r"|tokenizer/(tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template)\.json"
    r"|tokenizer/(tokenizer|spiece|sentencepiece\.bpe)\.model|tokenizer/(merges\.txt|chat_template\.jinja)"
    r"|frontier\.(json|png)"
)


def _list_roles() -> list[str]:
    """Names of networks of all families, and so of a bundle's folders."""
    families = [load_member("student", name).FAMILY for name in list_members("student")]
    return sorted({role for family in families for role in family.chain.roles})


def _compile(pattern: str) -> re.Pattern[str]:
    """A pattern of names, for the roles of any family and the files of any target."""
    targets = [load_target(name) for name in list_members("target")]
    for placeholder, names in (
        ("{role}", _list_roles()),
        ("{exported}", [target.files for target in targets]),
        ("{built}", [target.built_files for target in targets if target.built_files]),
    ):
        pattern = pattern.replace(placeholder, f"({'|'.join(names)})")
    return re.compile(pattern)


@dataclass(frozen=True)
class Contents:
    """What lies in a folder, as paths relative to it: files of a bundle, its folders, and what is not the bundle's."""

    files: tuple[str, ...]
    folders: tuple[str, ...]  # those around come before those within
    foreign: tuple[str, ...]


def sort_contents(folder: Path) -> Contents:
    """Tell a bundle's files from others, by name; nothing but the manifest and the card is opened, no link is followed."""
    is_ours = _judge_names(folder)
    files, folders, foreign = [], [], []
    for path, status in list_tree(folder):
        name = path.relative_to(folder).as_posix()
        if stat.S_ISDIR(status.st_mode):
            folders.append(name)
        elif stat.S_ISREG(status.st_mode) and (is_own_card(path) if name == CARD else is_ours(name)):
            files.append(name)
        else:
            foreign.append(name)
    around = {parent.as_posix() for name in (*files, *foreign) for parent in Path(name).parents}
    foreign += [
        f"{name}/" for name in folders if name not in around | {*_list_roles(), "tokenizer", "scheduler", REFERENCE_FOLDER}
    ]
    return Contents(tuple(files), tuple(folders), tuple(foreign))


def is_own_card(path: Path) -> bool:
    """Whether a README.md was made by this package, and not by the bundle's owner."""
    with contextlib.suppress(OSError):
        if stat.S_ISREG(path.lstat().st_mode):
            with path.open("rb") as file:
                return CARD_MARK.encode() in file.read(LONGEST_HEAD)
    return False


def check_replaceable(folder: Path) -> None:
    """Refuse to replace a folder in which anything is not a bundle's.

    Raises:
        InputError: the message names the first of these, and counts them.
    """
    foreign = sort_contents(folder).foreign
    if foreign:
        more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        raise InputError(
            f"{folder} holds what is not a bundle's: {', '.join(foreign[:SHOWN])}{more}; nothing was touched. Move it away, or "
            "choose another --out"
        )


def remove_bundle(folder: Path) -> tuple[str, ...]:
    """Remove a bundle's files, its manifest last, and the folders that are empty then; returns what is left for its owner."""
    found = sort_contents(folder)
    for name in sorted(found.files, key=lambda name: name == MANIFEST):
        (folder / name).unlink()
    folders = [folder / name for name in reversed(found.folders) if f"{name}/" not in found.foreign]
    for path in (*folders, folder):
        with contextlib.suppress(OSError):  # not empty
            path.rmdir()
    return found.foreign


def sweep_bundle(folder: Path) -> None:
    """Remove what killed runs left in a bundle: stale parts, and engines that were not named yet. Its lock must be held."""
    for name in ("", REFERENCE_FOLDER, *_list_roles()):
        sweep_parts(folder / name)
    manifest = _read_manifest(folder / MANIFEST)
    if not isinstance(manifest, dict) or not _is_ours(manifest):
        return
    built = _compile(_BUILT)
    for path in folder.glob("*/*"):
        name = path.relative_to(folder).as_posix()
        if built.fullmatch(name) and name not in _list_named(manifest):
            remove(path)


def _judge_names(folder: Path) -> Callable[[str], bool]:
    """Whether a name in this folder is a bundle's."""
    manifest, unnamed, given = _read_manifest(folder / MANIFEST), _compile(_UNNAMED), _compile(_GIVEN)
    if isinstance(manifest, dict):
        named = {MANIFEST, *_list_named(manifest)} if _is_ours(manifest) else set()
        if not named:
            return lambda name: False
        return lambda name: name in named or bool(unnamed.fullmatch(name)) or _is_part(name)
    has_given = any(given.fullmatch(path.relative_to(folder).as_posix()) for path, _ in list_tree(folder))
    if manifest is not None or not has_given:
        return lambda name: False
    return lambda name: name == MANIFEST or bool(unnamed.fullmatch(name) or given.fullmatch(name)) or _is_part(name)


def _is_part(name: str) -> bool:
    return PART.fullmatch(name.rpartition("/")[2]) is not None


def _read_manifest(path: Path) -> Any:
    """The manifest's value, of any shape; None where it cannot be read."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= LONGEST_MANIFEST:
            return json.loads(path.read_bytes())
    return None


def _is_ours(manifest: dict[str, Any]) -> bool:
    kinds = {"format": int, "artifacts": list, "key": str, "target": str, "precision": str}
    return all(type(manifest.get(name)) is kind for name, kind in kinds.items())


def _list_named(manifest: dict[str, Any]) -> set[str]:
    entries = [entry for entry in manifest["artifacts"] if isinstance(entry, dict)]
    return {entry["path"] for entry in entries if isinstance(entry.get("path"), str)}
