"""A site over HTTP on this machine: its files and nothing else, with the headers that threads in a browser need.

A path is looked up in the site's list, never in a folder. A request for another host than the one that is served is refused: a
page elsewhere whose name is made to lead here (DNS rebinding) gets nothing. Methods are GET and HEAD.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from sprint_export.demo.site_files import INDEX, Site, SiteFile
from sprint_export.errors import BundleError, InputError, MachineError

FIRST_PORT, PORTS = 8484, 20  # where no port was asked for: the first of these that is free
IDLE_S = 60  # a connection that says nothing is closed
WAITING = 128  # connections that the system holds until they are accepted
BLOCK = 1 << 18
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "style-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ISOLATION = {  # what a page needs for threads
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
HEADERS = {
    **ISOLATION,
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asked again each time, answered by 304 where the hash is the same
}


class SiteServer(ThreadingHTTPServer):
    """Serves one site."""

    daemon_threads = True
    request_queue_size = WAITING

    def __init__(self, address: tuple[str, int], site: Site, log: Callable[[str], None]) -> None:
        self.site = site
        self.log = log
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, SiteHandler)

    @property
    def url(self) -> str:
        """Where the page is."""
        host, port = str(self.server_address[0]), self.server_port
        if ipaddress.ip_address(host).is_unspecified:
            host = "localhost"
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    def is_own_host(self, header: str | None) -> bool:
        """Whether a Host header names this server: by address, or as localhost; of one that is open to others by its name too."""
        try:
            found = urlsplit(f"//{header}")
            name, port = found.hostname or "", found.port or 80
        except ValueError:
            return False
        own = ipaddress.ip_address(str(self.server_address[0]))
        if port != self.server_port or found.username is not None:
            return False
        if own.is_loopback:
            return name in ("localhost", str(own))
        return name in ("localhost", socket.gethostname().lower(), socket.getfqdn().lower()) or _is_address(name)

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away is no error of the server's; others are told."""
        import sys

        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.log(f"a request failed: {error!r}")


class SiteHandler(BaseHTTPRequestHandler):
    """One connection."""

    server: SiteServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "sprint-export", ""
    timeout = IDLE_S

    def do_GET(self) -> None:
        """A file."""
        self._answer(has_body=True)

    def do_HEAD(self) -> None:
        """Its headers."""
        self._answer(has_body=False)

    def _answer(self, has_body: bool) -> None:
        if not self.server.is_own_host(self.headers.get("Host")):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, f"this server is {self.server.url}\n")
            return
        file = self.server.site.files.get(_read_path(self.path))
        if file is None:
            self._refuse(HTTPStatus.NOT_FOUND, "no such file\n")
        elif self.headers.get("If-None-Match") == _tag(file):
            self._start(HTTPStatus.NOT_MODIFIED, {"ETag": _tag(file)})
        else:
            self._send(file, has_body)

    def _send(self, file: SiteFile, has_body: bool) -> None:
        kind = TYPES.get(PurePosixPath(file.url).suffix, "application/octet-stream")
        headers = {"Content-Type": kind, "Content-Length": str(file.size), "ETag": _tag(file)}
        if file.content is not None:
            self._start(HTTPStatus.OK, headers)
            if has_body:
                self.wfile.write(file.content)
            return
        try:
            opened = file.open()
        except BundleError as error:
            self._refuse(HTTPStatus.CONFLICT, f"{error}\n")
            return
        with opened:
            self._start(HTTPStatus.OK, headers)
            while has_body and (block := opened.read(BLOCK)):
                self.wfile.write(block)

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        body = text.encode()
        self._start(status, {"Content-Type": TYPES[".txt"], "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _start(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """To the server's own log."""
        self.server.log(format % arguments)


def open_server(site: Site, host: str, port: int | None, log: Callable[[str], None]) -> SiteServer:
    """A server that listens; it answers once `serve_forever` runs.

    Args:
        site: what it serves.
        host: an address of this machine, or a name of one.
        port: None: the first free one from 8484 on; 0: any free one.
        log: takes a line for each request.

    Raises:
        InputError: the port is taken, or the host is none of this machine's. MachineError: all ports that were tried are taken.
    """
    address = _find_address(host)
    ports = range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else (port,)
    for each in ports:
        try:
            return SiteServer((address, each), site, log)
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise InputError(f"--host {host} is no address of this machine; the default is 127.0.0.1") from error
            if error.errno == errno.EACCES:
                raise InputError(f"--port {each} is not yours to take ({error.strerror}); choose one above 1023") from error
            if error.errno != errno.EADDRINUSE:
                raise
    if port is not None:
        raise InputError(f"--port {port} is taken by another program; choose another, or leave it out for the next free one")
    raise MachineError(f"ports {FIRST_PORT} to {FIRST_PORT + PORTS - 1} are all taken; choose one with --port")


def _find_address(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError) as error:
        raise InputError(f"--host {host!r} is no address of this machine; the default is 127.0.0.1") from error


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _read_path(target: str) -> str:
    """The URL below the page that a request is for; the page itself is index.html."""
    path = unquote(target.partition("?")[0].partition("#")[0], errors="replace")
    return path.removeprefix("/") or INDEX


def _tag(file: SiteFile) -> str:
    return f'"{file.sha256[:32]}"'
