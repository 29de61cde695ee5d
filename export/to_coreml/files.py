"""Core ML packages as files: the same bytes for the same content.

Manifest.json   identifiers are random in coreml's writer; here UUIDs of the SHA-256 of what they stand for
model.mlmodel   map entries in order of their keys, without the day of conversion
"""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

from coremltools import proto

CONVERSION_DATE = "com.github.apple.coremltools.conversion_date"
DEBUG_FILE = "executorch_debug_handle_mapping.json"  # coremltools leaves it for ExecuTorch; nothing on a device reads it
MANIFEST = "Manifest.json"
ONE_READ = 1 << 20


def save_package(model: Any, package: Path) -> None:
    """Write a converted coremltools model as a `.mlpackage` whose bytes follow from its content."""
    model.user_defined_metadata.pop(CONVERSION_DATE, None)
    model.save(str(package))
    (package / DEBUG_FILE).unlink(missing_ok=True)
    _order_entries(package)
    _name_items(package)


def _order_entries(package: Path) -> None:
    """Write the package's Model protobuf anew, its maps in the order of their keys."""
    manifest = json.loads((package / MANIFEST).read_text("utf-8"))
    file = package / "Data" / manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    model = proto.Model_pb2.Model()
    model.ParseFromString(file.read_bytes())
    file.write_bytes(model.SerializeToString(deterministic=True))


def _name_items(package: Path) -> None:
    """Give the manifest's items identifiers made of what they are."""
    path = package / MANIFEST
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
