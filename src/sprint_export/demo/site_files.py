"""A site: the page, the package's modules, its runtime and a bundle, each file with its URL, size and sha256.

    index.html, *.js, *.css      the page (runtimes/javascript/demo)
    package/                     the JavaScript package's modules
    vendor/                      ONNX Runtime Web and the tokenizer
    bundle/                      app.json, what it names, and the reference
    site.json                    the list of all of these, the suggestions, and which runtime a provider takes
What is not in the list is not served.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from sprint_export import runtimes
from sprint_export.demo.app_files import App, AppFile
from sprint_export.demo.npm_files import PINS, NpmPackage, read_packages
from sprint_export.demo.suggestions import choose_suggestions
from sprint_export.errors import BundleError, RefusedError
from sprint_export.export.safe_files import FileError, open_checked
from sprint_export.registry import list_members, load_target
from sprint_export.versions import is_older

JAVASCRIPT = Path(runtimes.__file__).parent / "javascript"
PAGE = JAVASCRIPT / "demo"
MODULES = JAVASCRIPT / "src"
NODE = "node_"  # modules that only Node can load begin so
INDEX, LIST = "index.html", "site.json"
LIBRARY, FORMAT = "onnxruntime", "onnx"  # in an app's `runtimes`: what the page draws with; the format that it opens


@dataclass(frozen=True)
class SiteFile:
    """One file of a site: its URL below the page, and where it lies: `name` below `folder`, or `content`.

    `use` says what it is for: page, runtime, bundle, reference, or the provider that alone needs it.
    """

    url: str
    use: str
    size: int
    sha256: str
    folder: Path = field(default_factory=Path)
    name: str = ""
    content: bytes | None = None

    def open(self) -> BinaryIO:
        """The file for reading.

        Raises:
            BundleError: it is not what it was.
        """
        try:
            file = open_checked(self.folder, self.name)
            if file.seek(0, 2) == self.size:
                file.seek(0)
                return file
            file.close()
        except (FileError, FileNotFoundError) as error:
            raise BundleError(f"{self.url} has changed since the demo was started: start it again") from error
        raise BundleError(f"{self.url} has changed since the demo was started: start it again")


@dataclass(frozen=True)
class Site:
    """All that is served, by URL below the page."""

    title: str
    files: dict[str, SiteFile]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


def check_runs(app: App, packages: Iterable[NpmPackage]) -> None:
    """Refuse a bundle that a page cannot draw from.

    Raises:
        RefusedError: its graphs are for another runtime, or for a newer one than the page has.
    """
    oldest = app.runtimes.get(LIBRARY)
    if oldest is None:
        targets = [
            target for target in map(load_target, list_members("target")) if target.format == FORMAT and not target.built_files
        ]
        choices = [f"{target.name}-{precision}" for target in targets for precision in target.offers]
        raise RefusedError(
            f"{app.folder} is a {app.target} bundle, for {', '.join(app.runtimes) or 'no runtime'}; a page draws with ONNX "
            f"Runtime. Make one with --target {' or '.join(choices)}"
        )
    held = next(package.version for package in packages if package.name.startswith(LIBRARY))
    if is_older(held, oldest):
        raise RefusedError(f"{app.folder} needs ONNX Runtime {oldest} or newer; the page has {held}, the newest for browsers")


def make_site(app: App, folders: dict[str, Path]) -> Site:
    """Gather all files of a bundle's page; `folders`: npm packages' names -> where their files lie."""
    listed = [
        *_list_page(),
        *_list_vendor(folders),
        *(_place(app, file, "bundle") for file in app.files),
        *(_place(app, file, "reference") for file in app.references),
    ]
    value = {
        "bundle": "bundle/",
        "runtimes": json.loads((PAGE / PINS).read_text("utf-8"))["runtimes"],
        "suggestions": choose_suggestions(app.prompts, app.name),
        "files": [_describe(file) for file in listed],
    }
    value["version"] = hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
    content = json.dumps(value, indent=1).encode()
    index = SiteFile(LIST, "page", len(content), hashlib.sha256(content).hexdigest(), content=content)
    return Site(app.name, {file.url: file for file in (*listed, index)})


def _list_page() -> Iterator[SiteFile]:
    for path in sorted(PAGE.iterdir()):
        if path.is_file() and path.name != PINS and not path.name.startswith((".", "_")):
            yield _hash(PAGE, path.name, path.name, "page")
    for name in sorted(path.name for path in MODULES.glob("*.js") if not path.name.startswith(NODE)):
        yield _hash(MODULES, name, f"package/{name}", "page")


def _list_vendor(folders: dict[str, Path]) -> Iterator[SiteFile]:
    for package in read_packages(PAGE):
        for file in package.files:
            yield SiteFile(file.to, file.use, file.bytes, file.sha256, folders[package.name], file.path)


def _place(app: App, file: AppFile, use: str) -> SiteFile:
    return SiteFile(f"bundle/{file.path}", use, file.bytes, file.sha256, app.folder, file.path)


def _hash(folder: Path, name: str, url: str, use: str) -> SiteFile:
    data = (folder / name).read_bytes()
    return SiteFile(url, use, len(data), hashlib.sha256(data).hexdigest(), folder, name)


def _describe(file: SiteFile) -> dict[str, Any]:
    return {"path": file.url, "bytes": file.size, "sha256": file.sha256, "use": file.use}
