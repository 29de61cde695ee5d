"""Core ML packages as files: the same bytes for the same content, and nothing left elsewhere.

Manifest.json   identifiers are random in coreml's writer; here UUIDs of the SHA-256 of what they stand for
model.mlmodel   map entries in order of their keys, without the day of conversion
temporaries     coremltools writes all weights twice more; below the part's own folder, which an interrupted run sweeps
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sprint_export.runtimes.mil.program import find_model, read_model

CONVERSION_DATE = "com.github.apple.coremltools.conversion_date"
DEBUG_FILE = "executorch_debug_handle_mapping.json"  # coremltools leaves it for ExecuTorch; nothing on a device reads it
TEMPORARY = ".coremltools"
ONE_READ = 1 << 20


@contextlib.contextmanager
def temporaries_below(folder: Path) -> Iterator[None]:
    """Within, what libraries write through `tempfile` lies below this folder; it is removed at the end."""
    before, own = tempfile.tempdir, folder / TEMPORARY
    own.mkdir()
    tempfile.tempdir = str(own)
    try:
        yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(own, ignore_errors=True)


def save_package(model: Any, package: Path) -> None:
    """Write a converted coremltools model as a `.mlpackage` whose bytes follow from its content, flushed to the disk."""
    model.user_defined_metadata.pop(CONVERSION_DATE, None)
    model.save(str(package))
    (package / DEBUG_FILE).unlink(missing_ok=True)
    file = find_model(package)
    file.write_bytes(read_model(package).SerializeToString(deterministic=True))
    _name_items(package)
    for path in package.rglob("*"):
        if path.is_file():
            with path.open("r+b") as handle:
                os.fsync(handle.fileno())


def _name_items(package: Path) -> None:
    """Give the manifest's items identifiers made of what they are."""
    path = package / "Manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    items = manifest["itemInfoEntries"]
    names = {old: _identify(package / "Data", item["path"]) for old, item in items.items()}
    manifest["itemInfoEntries"] = {names[old]: item for old, item in items.items()}
    manifest["rootModelIdentifier"] = names[manifest["rootModelIdentifier"]]
    path.write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n", "utf-8")


def _identify(data: Path, item: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{item} {_hash(data / item)}"))


def _hash(item: Path) -> str:
    """SHA-256 of a file, or of all files of a folder with their names."""
    digest = hashlib.sha256()
    for path in [item] if item.is_file() else sorted(item.rglob("*")):
        digest.update(path.relative_to(item).as_posix().encode())
        if path.is_file():
            with path.open("rb") as file:
                while block := file.read(ONE_READ):
                    digest.update(block)
    return digest.hexdigest()
