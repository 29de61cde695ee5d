"""A registry of npm packages on this machine, with one package of a few bytes."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sprint_export.demo.npm_files import NpmPackage, PackageFile

CODE = b"export const code = 1;\n"
CONTENTS = {"package/dist/code.mjs": CODE, "package/package.json": b"{}", "../outside": b"x", "/tmp/outside": b"x"}


def make_tarball(contents: Mapping[str, bytes] = CONTENTS, links: Mapping[str, str] | None = None) -> bytes:
    """A gzipped tar of these members."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return data.getvalue()


def make_package(tarball: bytes, name: str = "@some/code") -> NpmPackage:
    """The pins of a package whose tarball this is."""
    digest = "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()
    file = PackageFile("dist/code.mjs", "vendor/code.mjs", len(CODE), hashlib.sha256(CODE).hexdigest(), "runtime")
    return NpmPackage(name, "1.2.3", "MIT", len(tarball), digest, (file,))


@dataclass
class Registry:
    """Where it listens, and the paths that were asked for."""

    url: str = ""
    asked: list[str] = field(default_factory=list)


@contextmanager
def serve_registry(tarball: bytes) -> Iterator[Registry]:
    """Answer any request with this tarball."""
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """The tarball."""
            registry.asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(tarball)))
            self.end_headers()
            self.wfile.write(tarball)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.url = f"http://127.0.0.1:{server.server_port}/npm"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
