"""A package from the npm registry: its tarball, checked before anything of it is believed, and a few files of it.

The registry is npm's own, or the one that npm is told: $npm_config_registry, or `registry=` (for a scope `@scope:registry=`) in
~/.npmrc. Registries that ask for a password are not served: give --node-modules.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import tarfile
import urllib.error
import urllib.request
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from sprint_export.cache import write_cached
from sprint_export.errors import MachineError
from sprint_export.progress import Progress, Step

if TYPE_CHECKING:
    from sprint_export.demo.npm_files import NpmPackage

REGISTRY = "https://registry.npmjs.org/"
VARIABLES = ("npm_config_registry", "NPM_CONFIG_REGISTRY")
TIMEOUT_S = 30
BLOCK = 1 << 18
MOST_CONFIG = 1 << 20  # bytes of ~/.npmrc


def find_registry(name: str) -> str:
    """The registry that npm would ask for a package, with a slash at its end."""
    scope = name.partition("/")[0] if name.startswith("@") else ""
    lines = _read_config()
    named = [lines.get(f"{scope}:registry"), *map(os.environ.get, VARIABLES), lines.get("registry"), REGISTRY]
    return next(found for found in named if found).rstrip("/") + "/"


def _read_config() -> dict[str, str]:
    """The lines of ~/.npmrc that name registries; nothing else of it is kept."""
    try:
        with (Path.home() / ".npmrc").open("rb") as file:
            text = file.read(MOST_CONFIG).decode("utf-8", "replace")
    except (OSError, RuntimeError):
        return {}
    found = re.findall(r"^\s*((?:@[^\s:=]+:)?registry)\s*=\s*(\S+)", text, re.MULTILINE)
    return {key: value for key, value in found if "${" not in value}


def fetch_package(package: NpmPackage, folder: Path, progress: Progress) -> None:
    """Put the pinned files of a package into `folder`, below the paths they have in it.

    Raises:
        MachineError: the registry cannot be reached, or gives something else.
    """
    url = f"{find_registry(package.name)}{package.name}/-/{package.name.rpartition('/')[2]}-{package.version}.tgz"
    tarball = _download(package, url, progress)
    for path, content in _unpack(package, tarball, url).items():
        write_cached(folder / path, partial(_write, content))


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _download(package: NpmPackage, url: str, progress: Progress) -> bytes:
    """A tarball of the pinned size and sha512."""
    step, total = Step("downloading", f"{package.name}, MB"), max(1, package.bytes // 1_000_000)
    data = bytearray()
    if not url.startswith(("https://", "http://")):
        raise MachineError(f"the npm registry {url} cannot be asked; expected an address that begins with https://")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            while (block := response.read(BLOCK)) and len(data) <= package.bytes:
                data += block
                progress(step, min(len(data) // 1_000_000, total), total)
    except (OSError, HTTPException, ValueError) as error:  # URLError and TimeoutError are OSErrors
        reason = getattr(error, "reason", None) or error
        raise MachineError(f"{url} cannot be fetched ({reason})") from error
    progress(step, total, total)
    digest = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    if len(data) != package.bytes or digest != package.integrity:
        raise MachineError(f"{url} gave {len(data)} bytes that are not {package}: its sha512 is another")
    return bytes(data)


def _unpack(package: NpmPackage, tarball: bytes, url: str) -> dict[str, bytes]:
    """The pinned files; whatever else the tarball names is never opened."""
    wanted = {f"package/{file.path}": file for file in package.files}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as archive:
            for member in archive:
                file = wanted.get(member.name)
                content = archive.extractfile(member) if file is not None and member.isfile() else None
                if file is not None and content is not None:
                    data = content.read(file.bytes + 1)
                    if hashlib.sha256(data).hexdigest() == file.sha256:
                        found[file.path] = data
    except (tarfile.TarError, OSError, EOFError) as error:
        raise MachineError(f"{url} is no package that can be unpacked ({error})") from error
    missing = [file.path for file in package.files if file.path not in found]
    if missing:
        raise MachineError(f"{url} lacks {', '.join(missing)} as pinned")
    return found
