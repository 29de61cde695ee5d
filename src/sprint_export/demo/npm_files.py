"""The page's runtime and tokenizer: files of two npm packages, in the versions and with the sha256 that npm_packages.json pins.

    --node-modules FOLDER   taken from there
    the cache               where an earlier run put them
    the npm registry        the packages' tarballs, checked against their sha512, of which only these files are unpacked
Nothing of a package runs on this machine but in the browser that is given the page.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sprint_export.cache import open_cache
from sprint_export.demo.npm_registry import fetch_package
from sprint_export.errors import InputError, MachineError
from sprint_export.paths import is_file, is_folder
from sprint_export.progress import Progress, quiet

PINS = "npm_packages.json"
KIND = "npm"  # of the cache


@dataclass(frozen=True)
class PackageFile:
    """One file: its path in the package, its URL below the page, and for which provider it is (or `runtime`: for all)."""

    path: str
    to: str
    bytes: int
    sha256: str
    use: str


@dataclass(frozen=True)
class NpmPackage:
    """A package of the npm registry; `bytes` and `integrity` (`sha512-` and base64) are its tarball's."""

    name: str
    version: str
    licence: str
    bytes: int
    integrity: str
    files: tuple[PackageFile, ...]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


def read_packages(page: Path) -> tuple[NpmPackage, ...]:
    """The pinned packages, from the folder of the page."""
    entries: list[dict[str, Any]] = json.loads((page / PINS).read_text("utf-8"))["packages"]
    return tuple(NpmPackage(**entry | {"files": tuple(PackageFile(**file) for file in entry["files"])}) for entry in entries)


def find_packages(
    packages: tuple[NpmPackage, ...], node_modules: Path | None = None, progress: Progress = quiet
) -> dict[str, Path]:
    """Each package's name -> a folder that holds its pinned files, downloaded where they are nowhere on this machine.

    Raises:
        InputError: `node_modules` lacks a package, or has another version. MachineError: the registry cannot be reached.
    """
    if node_modules is not None:
        return {package.name: _take(package, node_modules) for package in packages}
    return {package.name: _find_cached(package, packages, progress) for package in packages}


def _take(package: NpmPackage, node_modules: Path) -> Path:
    folder = node_modules / package.name
    advice = f"run there: npm install {package}"
    if not is_folder(folder):
        raise InputError(f"--node-modules {node_modules} has no {package.name}; {advice}")
    try:
        found = json.loads((folder / "package.json").read_text("utf-8"))["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--node-modules: {folder}/package.json says no version ({error}); {advice}") from error
    if found != package.version:
        raise InputError(f"--node-modules: {folder} is version {found}, expected {package.version}; {advice}")
    if (wrong := _find_wrong(package, folder)) is not None:
        raise InputError(f"--node-modules: {folder / wrong} is not the file of {package}; {advice}")
    return folder


def _find_cached(package: NpmPackage, packages: tuple[NpmPackage, ...], progress: Progress) -> Path:
    folder = open_cache(KIND) / str(package).replace("/", "+")
    if _find_wrong(package, folder) is None:
        return folder
    install = f"npm install {' '.join(map(str, packages))}"
    try:
        fetch_package(package, folder, progress)
    except MachineError as error:
        raise MachineError(
            f"{error}. The demo page takes {package.name} from there once; without a network, run elsewhere: {install}, and give "
            "its folder with --node-modules"
        ) from error
    return folder


def _find_wrong(package: NpmPackage, folder: Path) -> str | None:
    """The first file that is missing or differs from its pin, or None."""
    for file in package.files:
        path = folder / file.path
        if not is_file(path) or path.stat().st_size != file.bytes:
            return file.path
        with path.open("rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != file.sha256:
                return file.path
    return None
