"""The files of a diffusers folder, read as data: JSON, prompts, the licence, and a fingerprint over all of it.

A folder may come from anywhere, so only regular files inside it are opened; a link may lead to another place in the folder, or,
in the hub's cache (`models--owner--name/snapshots/<revision>/`), to the cache's own `blobs/`. Nothing of a folder is executed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Container
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sprint_export.bundle_files import MANIFEST
from sprint_export.errors import InputError
from sprint_export.strict_json import check_depth

LARGEST_TEXT = 16 << 20  # bytes of a config, a prompt file, a model card
HASHED = (".json", ".safetensors")
MOST_DIGITS = 300  # of a whole number
MERGES = "merges.txt"  # of a tokenizer without tokenizer.json


def check_file(path: Path, folder: Path) -> Path:
    """The same path, once it is known to be a regular file that lies in the student's folder.

    Raises:
        InputError: it is missing, a folder, a FIFO or a device, or a link that leads nowhere or out of the folder.
    """
    try:
        found = path.stat()
        real = path.resolve(strict=True)
    except FileNotFoundError as error:
        lost = f"a link to {path.readlink()}, which is not there" if path.is_symlink() else "missing"
        raise InputError(f"{path} is {lost}; expected a diffusers folder as a pipeline's save_pretrained writes it") from error
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links is a RuntimeError
        raise InputError(f"{path} cannot be opened ({error}); download it again") from error
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path} is no regular file; expected one, as a pipeline's save_pretrained writes it")
    if not any(real.is_relative_to(root) for root in _roots(folder)):
        raise InputError(f"{path} is a link out of the student's folder, to {real}; put the file itself there")
    return path


def _roots(folder: Path) -> list[Path]:
    """Where files of a student may lie: its folder, and the blobs of the hub's cache where it is a snapshot there."""
    real = folder.resolve()
    snapshot = find_snapshot(real)
    return [real, *([] if snapshot is None else [snapshot.parent.parent / "blobs"])]


def find_snapshot(folder: Path) -> Path | None:
    """The snapshot of the hub's cache that a folder is, or lies in; None where it is none."""
    inside = (path for path in (folder, *folder.parents) if path.parent.name == "snapshots")
    return next((path for path in inside if path.parent.parent.name.startswith("models--")), None)


def check_files(folder: Path, parts: tuple[str, ...]) -> None:
    """Whether all that a library may open is a regular file in the folder: what lies in its `parts`, and every file to be hashed.

    Raises:
        InputError: as `check_file`.
    """
    for name in parts:
        if (folder / name).is_symlink() or not (folder / name).is_dir():
            raise InputError(f"{folder / name} is no folder; expected a diffusers folder with {', '.join(parts)}")
        for path in sorted((folder / name).iterdir()):
            if not (path.is_dir() and not path.is_symlink() and path.suffix not in HASHED):
                check_file(path, folder)
    for path in list_hashed(folder):
        check_file(path, folder)


def list_hashed(folder: Path) -> list[Path]:
    """Everything in the folder that is named like a config, weights or a tokenizer file, in order.

    A bundle that was made in there is none of the student's, nor is what is hidden, its work folder among it: else the same
    command would find another student the second time.
    """
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and not _is_bundle(Path(parent, name))]
        found += [Path(parent, name) for name in (*folders, *files) if Path(name).suffix in HASHED or name == MERGES]
    return sorted(found)


def _is_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle and no network of a student, which has a config."""
    return (folder / MANIFEST).is_file() and not (folder / "config.json").exists()


def find_part(folder: Path, name: str) -> Path:
    """Where one network lies: in the subfolder of that name, as in a pipeline's folder, or in the folder itself."""
    return folder / name if (folder / name).is_dir() else folder


def fingerprint_folder(folder: Path, unused: Container[Path] = (), part: Path | None = None) -> str:
    """sha256 over the names and contents of the configs, weights and tokenizer files, except the `unused` ones.

    Args:
        folder: the student's.
        unused: what is left out.
        part: the folder in it that is meant; default the whole.

    Raises:
        InputError: as `check_file`.
    """
    total, top = hashlib.sha256(), part or folder
    paths = [check_file(path, folder) for path in list_hashed(top) if path not in unused]
    with ThreadPoolExecutor() as pool:  # the weights are gigabytes, and hashing waits for no lock of Python's
        for path, digest in zip(paths, pool.map(hash_file, paths), strict=True):
            total.update(os.fsencode(path.relative_to(top)))
            total.update(digest)
    return total.hexdigest()


def hash_file(path: Path) -> bytes:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def read_text(path: Path, folder: Path) -> str:
    """A text file of a student, in UTF-8 with or without a byte order mark.

    Raises:
        InputError: as `check_file`; or it is not UTF-8, or larger than LARGEST_TEXT.
    """
    size = check_file(path, folder).stat().st_size
    if size > LARGEST_TEXT:
        raise InputError(f"{path} has {size:,} bytes, expected at most {LARGEST_TEXT:,}")
    try:
        return path.read_text("utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is not readable text in UTF-8 ({error}); download it again") from error


def read_json(path: Path, folder: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: the file is missing or is not a JSON object.
    """
    text = read_text(path, folder)
    try:
        value = parse_text(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable JSON ({error}); download it again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}, expected a JSON object")
    return value


def parse_text(text: str) -> Any:
    """The value of a student's JSON; NaN, infinity and numbers beyond float64 are none (tokenizers have 10^30 for no limit).

    Raises:
        ValueError, RecursionError: it is no JSON, or nested deeper than any file of a student.
    """
    value = json.loads(text, parse_constant=_refuse_constant, parse_int=_read_int, parse_float=_read_float)
    check_depth(value)
    return value


def read_pipeline(folder: Path) -> str:
    """The pipeline class that a folder's `model_index.json` names; "" where it names none.

    Raises:
        InputError: as `read_json`.
    """
    return str(read_json(folder / "model_index.json", folder).get("_class_name") or "")


def has_tensor(folder: Path, mark: str) -> bool:
    """Whether weights hold a tensor whose name begins as `mark` says, e.g. `transformer/time_embed.`; no weight is read.

    A file that is damaged has none here; who loads it says what it lacks.
    """
    name, _, start = mark.partition("/")
    files = sorted((folder / name).glob("*.safetensors*"))
    return any(tensor.startswith(start) for file in files for tensor in _list_tensors(file, folder))


def _list_tensors(file: Path, folder: Path) -> list[str]:
    """Names in a safetensors file's header, or in the index of shards."""
    try:
        check_file(file, folder)
        if file.suffix == ".json":
            return list(read_json(file, folder)["weight_map"])
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            return list(json.loads(opened.read(size))) if size <= LARGEST_TEXT else []
    except (InputError, ValueError, KeyError, TypeError, RecursionError, OSError):
        return []


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _read_int(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"the number {digits[:24]}... has {len(digits)} digits, more than float64 holds")
    return int(digits)


def _read_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:24]}... is beyond float64")
    return value


def read_prompts(path: Path, folder: Path) -> tuple[str, ...]:
    """One prompt a line, empty lines left out.

    Raises:
        InputError: as `read_text`.
    """
    return tuple(line.strip() for line in read_text(path, folder).splitlines() if line.strip())


def read_licence(folder: Path) -> str:
    """The `license:` line of the model card's front matter, or a hint where to look; the card may be the whole repository's.

    Raises:
        InputError: as `read_text`.
    """
    return read_card(folder, "license") or "not stated; see the model's page"


def read_card(folder: Path, key: str) -> str:
    """A line of the model card's front matter; empty where there is none."""
    card = folder / "README.md"
    if not card.exists() and (snapshot := find_snapshot(folder.resolve())) is not None:
        card, folder = snapshot / "README.md", snapshot
    lines = read_text(card, folder).splitlines() if card.exists() or card.is_symlink() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{key}:")), "")
