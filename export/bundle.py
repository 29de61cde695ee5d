"""The bundle on disk: a folder of files and `bundle.json`, which is written last and believed only after checks.

A bundle is untrusted input. The manifest carries a sha256 of itself (of its canonical JSON, that field left out), looked at
before anything else is believed; then what it says must make sense (manifest_checks.py); then the files it names must be
regular files inside the folder (safe_files.py) of the sizes and hashes it gives. What it does not name is never opened: readers
get paths from `locate` and `locate_kind`. Standard library only, because a phone's build box reads bundles too.
docs/decisions/0017-untrusted-bundles.md says what this holds against and what not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from sprint_export.app_contract import describe_app
from sprint_export.bundle_files import APP, LONGEST_MANIFEST, MANIFEST, TOKENIZER
from sprint_export.errors import BundleError, InputError
from sprint_export.export.app_checks import AppError, check_app, read_app, read_beyond
from sprint_export.export.manifest_checks import ManifestError, check_manifest
from sprint_export.export.safe_files import FileError, check_way, find_odd_entry, hash_bytes, open_checked
from sprint_export.files import write_text
from sprint_export.json_forms import from_json, to_json
from sprint_export.nouns.bundle import Artifact, Bundle
from sprint_export.prompt_reader import count_ending
from sprint_export.registry import load_target
from sprint_export.strict_json import hash_json, parse_json

__all__ = [
    "FORMAT",
    "add_artifacts",
    "find_artifact",
    "find_file",
    "find_odd_entry",
    "hash_file",
    "locate",
    "locate_kind",
    "make_artifact",
    "read_bundle",
    "read_manifest",
    "write_app",
    "write_bundle",
]

FORMAT = 6
HASH = "sha256"  # the manifest's field that holds its own
MOST_LETTERS = 400  # of what an error quotes from a manifest


def make_artifact(folder: Path, path: Path, role: str, kind: str, format: str) -> Artifact:
    """Describe a file of the bundle at `folder`, hashing it."""
    return Artifact(role, kind, path.relative_to(folder).as_posix(), format, path.stat().st_size, hash_file(path))


def hash_file(path: Path) -> str:
    """sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bundle(bundle: Bundle) -> None:
    """Write the manifest with its hash; the files it names must be there already.

    Raises:
        InputError: it would say what no reader believes.
    """
    try:
        check_manifest(bundle)
    except ManifestError as error:
        raise InputError(f"no bundle can be made of this student: {error}") from error
    value = to_json(replace(bundle, folder=Path())) | {"format": FORMAT}
    write_text(bundle.folder / MANIFEST, json.dumps(value | {HASH: hash_json(value)}, indent=1, allow_nan=False) + "\n")


def write_app(bundle: Bundle, examples: Sequence[str] | None = None) -> Bundle:
    """Write `app.json`, and the manifest that names it, where the bundle has all that a picture takes; else leave it as it is.

    Also where its graphs have another interface than the manifest says, for another program to open.

    A manifest never names an `app.json` that says something else, a run that is killed in between included: the manifest goes
    without it for that moment.

    Args:
        bundle: its files are there.
        examples: prompts that it draws well; default: those that its `app.json` has.

    Raises:
        InputError: as `write_bundle` does. BundleError: the tokenizer is damaged.
    """
    if bundle.chain.list_missing([record.role for record in bundle.components]):
        return bundle
    if load_target(bundle.target).refuse_app(bundle.options) is not None:
        return bundle
    before = find_file(bundle, APP)
    if examples is None:
        examples = _read_examples(bundle) if before is not None else ()
    ending = count_ending(locate(bundle, TOKENIZER), BundleError) if bundle.prompt.cuts else 0
    text = json.dumps(describe_app(bundle, ending, examples), indent=1, allow_nan=False) + "\n"
    if before is not None:
        if before.sha256 == hashlib.sha256(text.encode()).hexdigest():
            return bundle
        bundle = replace(bundle, artifacts=tuple(artifact for artifact in bundle.artifacts if artifact != before))
        write_bundle(bundle)
    write_text(bundle.folder / APP, text)
    bundle = add_artifacts(bundle, [make_artifact(bundle.folder, bundle.folder / APP, "app", "app", "json")])
    write_bundle(bundle)
    return bundle


def read_bundle(folder: Path, verify: bool = True) -> Bundle:
    """Read and check a bundle.

    Args:
        folder: where `bundle.json` lies.
        verify: compare contents by sha256 as well as sizes (about a second a gigabyte).

    Raises:
        InputError: there is no bundle there.
        BundleError: the manifest is damaged, or a file is missing, truncated, altered or outside the folder.
    """
    bundle = read_manifest(folder)
    for artifact in {artifact.path: artifact for artifact in bundle.artifacts}.values():
        _check(folder, artifact, verify)
    if verify:
        _check_contract(bundle)
    return bundle


def read_manifest(folder: Path) -> Bundle:
    """What a manifest says, checked but for the files it names, which need not be there.

    Raises:
        InputError: there is no bundle there. BundleError: the manifest is damaged.
    """
    path = folder / MANIFEST
    try:
        value = parse_json(_read_manifest(folder))
        found = value.pop("format")
        if type(found) is not int or found != FORMAT:
            shown = repr(found)[:40]
            raise BundleError(f"{path} has format {shown}, this version reads {FORMAT}; export the student again")
        said = value.pop(HASH)
        if said != hash_json(value | {"format": FORMAT}):
            raise BundleError(f"{path} was altered: the sha256 of itself does not fit; copy or export the bundle again")
        bundle = replace(from_json(Bundle, value), folder=folder)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BundleError(f"{path} is damaged ({str(error)[:MOST_LETTERS]}); export the student again") from error
    try:
        check_manifest(bundle)
    except ManifestError as error:
        raise BundleError(f"{path} makes no sense: {error}; export the student again") from error
    return bundle


def _read_examples(bundle: Bundle) -> tuple[str, ...]:
    try:
        return read_beyond(read_app(bundle.folder)).examples
    except AppError as error:
        raise BundleError(f"{bundle.folder / APP} is damaged ({error}); copy or export it again") from error


def _check_contract(bundle: Bundle) -> None:
    try:
        check_app(bundle)
    except AppError as error:
        raise BundleError(
            f"{bundle.folder / APP} does not say what {MANIFEST} says: {error}; export the student again"
        ) from error


def _read_manifest(folder: Path) -> bytes:
    try:
        with open_checked(folder, MANIFEST) as file:
            data = file.read(LONGEST_MANIFEST + 1)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(
            f"{folder} is not a bundle: it has no {MANIFEST}. Make one with: sprint-export --target trt-fp8 --out {folder}"
        ) from error
    except (FileError, OSError) as error:
        raise BundleError(f"{folder / MANIFEST} {error}; copy the bundle with its files in it, or export it again") from error
    if len(data) > LONGEST_MANIFEST:
        raise BundleError(
            f"{folder / MANIFEST} has more than {LONGEST_MANIFEST} bytes, so it is no manifest; export the student again"
        )
    return data


def _check(folder: Path, artifact: Artifact, verify: bool) -> None:
    path = folder / artifact.path
    try:
        size = check_way(folder, artifact.path).st_size
        if size != artifact.bytes:
            raise BundleError(f"{path} has {size} bytes, expected {artifact.bytes}; it is truncated, copy or export it again")
        if verify:
            with open_checked(folder, artifact.path) as file:
                if hash_bytes(file, size) != artifact.sha256:
                    raise BundleError(f"{path} was altered: its sha256 is not the one in {MANIFEST}; copy or export it again")
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing; the bundle is incomplete, copy or export it again") from error
    except (FileError, OSError) as error:
        raise BundleError(
            f"{folder / MANIFEST} names {artifact.path!r}, which {error}; copy the bundle with its files in it, or do not use it"
        ) from error


def locate(bundle: Bundle, path: str) -> Path:
    """Where a file of the bundle lies that its manifest names: the only way to one.

    Raises:
        BundleError: the manifest does not name it, or it is missing, no regular file, or reached through a link.
    """
    artifact = find_file(bundle, path)
    if artifact is None:
        raise BundleError(f"{bundle.folder / MANIFEST} names no {path!r}; the bundle is incomplete, export the student again")
    _check(bundle.folder, artifact, verify=False)
    return bundle.folder / path


def locate_kind(bundle: Bundle, role: str, kind: str, device: str | None = None) -> Path | None:
    """Where the component's file of that kind, and for that device, lies, or None where the manifest names none.

    Raises:
        BundleError: it is named and missing, no regular file, or reached through a link.
    """
    artifact = find_artifact(bundle, role, kind, device)
    return None if artifact is None else locate(bundle, artifact.path)


def find_artifact(bundle: Bundle, role: str, kind: str, device: str | None = None) -> Artifact | None:
    """The component's file of that kind, built for that device where a device shapes it, or None."""
    return next((a for a in bundle.artifacts if (a.role, a.kind, a.device) == (role, kind, device)), None)


def find_file(bundle: Bundle, path: str) -> Artifact | None:
    """The file at a path of the bundle, or None."""
    return next((a for a in bundle.artifacts if a.path == path), None)


def add_artifacts(bundle: Bundle, artifacts: Iterable[Artifact]) -> Bundle:
    """A new bundle in which these take the place of those with the same path, kind and device.

    One file may stand there for several devices: an engine serves all of its compute capability.
    """
    new = {(a.path, a.kind, a.device): a for a in artifacts}
    kept = tuple(a for a in bundle.artifacts if (a.path, a.kind, a.device) not in new)
    return replace(bundle, artifacts=kept + tuple(new.values()))
