"""The bundle on disk: a folder of files and `bundle.json`, which is written last and believed only after checks.

A bundle is untrusted input: every path must stay inside the folder, sizes are compared before a file is read, and contents
are compared by sha256. Standard library only, because a phone's build box reads bundles too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from sprint_export.bundle_files import MANIFEST
from sprint_export.errors import BundleError, InputError
from sprint_export.files import write_text
from sprint_export.json_forms import from_json, to_json
from sprint_export.schema import Artifact, Bundle

FORMAT = 4


def make_artifact(folder: Path, path: Path, role: str, kind: str, format: str) -> Artifact:
    """Describe a file of the bundle at `folder`, hashing it."""
    return Artifact(role, kind, path.relative_to(folder).as_posix(), format, path.stat().st_size, hash_file(path))


def hash_file(path: Path) -> str:
    """sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bundle(bundle: Bundle) -> None:
    """Write the manifest; the files it names must be there already."""
    value = to_json(replace(bundle, folder=Path())) | {"format": FORMAT}
    write_text(bundle.folder / MANIFEST, json.dumps(value, indent=1) + "\n")


def read_bundle(folder: Path, verify: bool = True) -> Bundle:
    """Read and check a bundle.

    Args:
        folder: where `bundle.json` lies.
        verify: compare contents by sha256 as well as sizes (about a second a gigabyte).

    Raises:
        InputError: there is no bundle there.
        BundleError: the manifest is damaged, or a file is missing, truncated, altered or outside the folder.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(
            f"{folder} is not a bundle: it has no {MANIFEST}. Make one with: sprint-export --target trt-fp8 --out {folder}"
        )
    try:
        value = json.loads(path.read_text("utf-8"))
        found = value.pop("format")
        if found != FORMAT:
            raise BundleError(f"{path} has format {found!r}, this version reads {FORMAT}; export the student again")
        bundle = replace(from_json(Bundle, value), folder=folder)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BundleError(f"{path} is damaged ({error}); export the student again") from error
    for artifact in bundle.artifacts:
        _check(folder, artifact, verify)
    return bundle


def _check(folder: Path, artifact: Artifact, verify: bool) -> None:
    path = folder / artifact.path
    if "\0" in artifact.path or not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"{folder / MANIFEST} names {artifact.path!r}, which lies outside the bundle; do not use this bundle")
    if not path.is_file():
        raise BundleError(f"{path} is missing; the bundle is incomplete, copy or export it again")
    if path.stat().st_size != artifact.bytes:
        raise BundleError(
            f"{path} has {path.stat().st_size} bytes, expected {artifact.bytes}; it is truncated, copy or export it again"
        )
    if verify and hash_file(path) != artifact.sha256:
        raise BundleError(f"{path} was altered: its sha256 is not the one in {MANIFEST}; copy or export it again")


def find_artifact(bundle: Bundle, role: str, kind: str) -> Artifact | None:
    """The component's file of that kind, or None."""
    return next((a for a in bundle.artifacts if (a.role, a.kind) == (role, kind)), None)


def find_file(bundle: Bundle, path: str) -> Artifact | None:
    """The file at a path of the bundle, or None."""
    return next((a for a in bundle.artifacts if a.path == path), None)


def add_artifacts(bundle: Bundle, artifacts: Iterable[Artifact]) -> Bundle:
    """A new bundle in which these take the place of those with the same path and kind.

    One file may have several kinds: an engine serves every device of its compute capability.
    """
    new = {(a.path, a.kind): a for a in artifacts}
    kept = tuple(a for a in bundle.artifacts if (a.path, a.kind) not in new)
    return replace(bundle, artifacts=kept + tuple(new.values()))
