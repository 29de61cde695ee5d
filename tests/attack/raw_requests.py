"""Campaign: bytes on a socket of the two servers, `serve` and `demo`: requests that no client makes.

Every request has an answer of HTTP below 500 or a closed connection, within the time that a body may take; the log has no
failure; nothing beside the site's list is served; and a right request in between is answered as before.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import logging
import random
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sprint_export.demo.server import SiteServer, open_server
from sprint_export.demo.site_files import Site, SiteFile
from tests.attack.mutate_bundles import make_bundle
from tests.attack.outcomes import CLEAN, HANG, OUTSIDE, RIGHT, TRACEBACK, WRONG, Tally

NAME = "raw requests"
BODY_S, MOST_S = 1.0, 10.0
PATH = "/v1/images/generations"
SECRET = b"this lies beside the site"
EACH = 25  # attacks between two right requests
CONNECTIONS = 1000
REFUSED = ("501", "505")  # a method or a version of HTTP that a server does not speak
WORDS: tuple[Any, ...] = (
    "a red circle",
    "",
    " ",
    "\ud800",
    "\udcff a",
    "a\0b",
    "\x1b[2J",
    "<script>",
    "x" * 3999,
    "é" * 4000,
    "\u202e",
)
WORDS += (None, True, 0, -1, 1.5, 2**53, 2**64, 10**300, 1e308, [], {}, ["a"], {"a": 1}, "auto", "64x64", "³²x64", "٣٢x٣٢", "0x0")
FIELDS = (
    "prompt",
    "model",
    "n",
    "size",
    "response_format",
    "seed",
    "steps",
    "user",
    "stream",
    "quality",
    "output_format",
    "\ud800",
    "__proto__",
)
HEADERS = (
    "Content-Length",
    "Transfer-Encoding",
    "Content-Type",
    "Authorization",
    "Host",
    "Expect",
    "Upgrade",
    "Connection",
    "Range",
    "If-None-Match",
    "Origin",
    "X-A",
)
VALUES = (
    "",
    "0",
    "-1",
    "\xb2",
    "9" * 40,
    "chunked",
    "gzip",
    "identity, chunked",
    "application/json; charset=utf-16",
    "Bearer \xff",
    "evil",
    "127.0.0.1:99999",
    "[::1",
    "localhost:x",
    "100-continue",
    "websocket",
    "close",
    "bytes=0-",
    "\x00",
    "a" * 70_000,
    "*",
    "\r\n",
)
PATHS = (
    "/",
    "/health",
    "/v1/models",
    "/v1/models/..%2f..%2fsecret",
    "/../secret",
    "/%2e%2e/secret",
    "//secret",
    "/bundle/../../secret",
    "/bundle/%00",
    "/\\..\\secret",
    "*",
    "http://evil/health",
    "/" + "a" * 60_000,
    "/%ff%fe",
    "/\xff",
    "/v1/models/%ed%a0%80",
    "/metrics?x=%",
    "/index.html#../secret",
    "/secret",
    "/bundle/model.onnx",
)
METHODS = ("GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "TRACE", "get", "G ET", "\x00", "PRI")


@dataclass
class Failures(logging.Handler):
    """What the log says of failed requests."""

    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(logging.ERROR)

    def __hash__(self) -> int:
        return id(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(f"{record.getMessage()} {record.exc_info[1]!r}" if record.exc_info else record.getMessage())


def make_request(rng: random.Random) -> tuple[str, list[bytes]]:
    """(the kind of attack, what is sent, in pieces)."""
    kind = rng.choice(["values", "values", "text", "headers", "path", "noise", "pieces", "pipelined", "short body", "chunks"])
    if kind == "values":
        return kind, [post_request(_make_body(rng))]
    if kind == "text":
        return kind, [post_request(_make_text(rng))]
    if kind == "headers":
        more = "".join(f"{rng.choice(HEADERS)}: {rng.choice(VALUES)}\r\n" for _ in range(rng.choice([1, 1, 2, 300])))
        return kind, [post_request(b'{"prompt": "a"}', more)]
    if kind == "path":
        line = f"{rng.choice(METHODS)} {rng.choice(PATHS)} HTTP/{rng.choice(['1.1', '1.0', '2.0', '9', ''])}\r\n"
        return kind, [line.encode("latin-1") + b"Host: 127.0.0.1\r\nConnection: close\r\n\r\n"]
    if kind == "noise":
        return kind, [rng.randbytes(rng.randrange(1, 3000)) + b"\r\n\r\n"]
    if kind == "pieces":
        whole = post_request(_make_body(rng))
        cuts = sorted(rng.randrange(len(whole)) for _ in range(4))
        return kind, [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    if kind == "pipelined":
        return kind, [
            b"".join(post_request(_make_body(rng), close=False) for _ in range(4)) + post_request(b'{"prompt": "a", "seed": 1}')
        ]
    if kind == "short body":
        return kind, [post_request(b'{"prompt": "a"}', length=rng.choice([16, 1000, 60_000]))]
    sizes = rng.choice(
        [
            "5\r\nhello\r\n0\r\n\r\n",
            "fffffffffffffffff\r\nx",
            "-1\r\n\r\n",
            "5;x\r\nhe",
            "zz\r\n",
            "1\r\nx\r\n" * 70_000 + "0\r\n\r\n",
        ]
    )
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return kind, [(head + sizes).encode()]


def _make_body(rng: random.Random) -> bytes:
    """A JSON object with up to four fields that hold anything; pictures are few and small whatever it asks for."""
    value: dict[str, Any] = {"prompt": "a red circle", "seed": 1}
    for _ in range(rng.randrange(1, 5)):
        value[rng.choice(FIELDS)] = rng.choice(WORDS)
    return json.dumps(value, ensure_ascii=rng.random() < 0.7).encode("utf-8", "surrogatepass")


def _make_text(rng: random.Random) -> bytes:
    right = '{"prompt": "a", "seed": 1}'
    forms = (
        "[" * 60_000,
        '{"prompt":' * 5000,
        right * 2,
        right.replace("1", "NaN"),
        right.replace("1", "1" * 5000),
        "null",
        '"x"',
        "",
        "\0",
    )
    odd = (
        b"\xff\xfe" + right.encode("utf-16-le"),
        b"\xef\xbb\xbf" + right.encode(),
        b'{"prompt": "\xff"}',
        b'{"prompt":"a","prompt":5}',
    )
    return rng.choice([*(form.encode() for form in forms), *odd])


def post_request(body: bytes, more: str = "", length: int | None = None, close: bool = True) -> bytes:
    """A request for a picture, with more headers, and a length that need not be the body's."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    head += (
        more
        + f"Content-Length: {len(body) if length is None else length}\r\n"
        + ("Connection: close\r\n" if close else "")
        + "\r\n"
    )
    return head.encode("latin-1", "replace") + body


def send(port: int, pieces: list[bytes], half_closes: bool) -> tuple[bytes, bool]:
    """What came back until the server closed, and whether it took longer than any answer may."""
    deadline = time.monotonic() + MOST_S
    with socket.create_connection(("127.0.0.1", port), timeout=MOST_S) as connection, contextlib.suppress(OSError):
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.005 if len(pieces) > 1 else 0)
        if half_closes:
            connection.shutdown(socket.SHUT_WR)
        return receive_all(connection, deadline)
    return b"", False


def receive_all(connection: socket.socket, deadline: float) -> tuple[bytes, bool]:
    """What came until the other side closed, and whether that was too late."""
    said = b""
    while (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            more = connection.recv(1 << 16)
        except TimeoutError:
            break
        except ConnectionError:
            return said, False
        if not more:
            return said, False
        said += more
        if len(said) > 1 << 26:
            break
    return said, True


def judge(said: bytes, is_late: bool, failures: Failures) -> tuple[str, str]:
    """Outcome and what was seen."""
    statuses = [line.split()[1].decode() for line in said.split(b"\r\n") if line.startswith(b"HTTP/") and len(line.split()) > 1]
    seen = f"statuses {statuses}, late {is_late}, log {failures.said[:2]}"
    if SECRET in said:
        return OUTSIDE, seen
    if failures.said or any(status.startswith("5") and status not in REFUSED for status in statuses):
        failures.said.clear()
        return TRACEBACK, seen
    if is_late and not statuses:  # one that is kept open after its answer is no hang
        return HANG, seen
    return (RIGHT if "200" in statuses else CLEAN), seen


@dataclass
class Target:
    """A server under attack: its port, and what a right request gives."""

    name: str
    port: int
    ask: Callable[[int], str]
    failures: Failures
    right: str = ""


def run(count: int, seed: int, tally: Tally) -> None:
    """Attack each server `count` / 2 times."""
    with tempfile.TemporaryDirectory(prefix="requests-") as name, serving(Path(name)) as one, showing(Path(name)) as other:
        for target in (one, other):
            target.right = target.ask(target.port)
        for i in range(count):
            rng, target = random.Random(f"{seed}-{i}"), (one, other)[i % 2]
            kind, pieces = make_request(rng)
            said, is_late = send(target.port, pieces, rng.random() < 0.5)
            outcome, seen = judge(said, is_late, target.failures)
            tally.add(f"{target.name}: {kind}", outcome, f"{seed}-{i} {b''.join(pieces)[:300]!r}: {seen}")
            if i % EACH == 0:
                found = target.ask(target.port)
                tally.add(f"{target.name}: a right request", RIGHT if found == target.right else WRONG, f"{seed}-{i}: {found}")
        for target in (one, other):
            tally.add(f"{target.name}: {CONNECTIONS} connections", *hold_many(target))


def hold_many(target: Target) -> tuple[str, str]:
    """So many connections that say half a request; a right one is answered beside them, and after them."""
    held = []
    try:
        for _ in range(CONNECTIONS):
            held.append(socket.create_connection(("127.0.0.1", target.port), timeout=MOST_S))
            held[-1].sendall(b"GET /health HTTP/1.1\r\nX: ")
        start = time.monotonic()
        found, took = target.ask(target.port), time.monotonic() - start
    finally:
        for connection in held:
            connection.close()
    is_right = found == target.right and target.ask(target.port) == target.right
    return (RIGHT if is_right and not target.failures.said else WRONG), f"{found} in {took:.1f} s, log {target.failures.said[:2]}"


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Target]:
    """`serve` with a small bundle, in a thread."""
    from tests.server.test_serving import running

    make_bundle(folder / "bundle", "onnx-fp32")
    failures = Failures()
    for name in ("sprint_export", "uvicorn", "asyncio", "starlette"):
        logging.getLogger(name).addHandler(failures)
    with running(folder / "bundle", body_seconds=BODY_S, most_pictures=2) as client:
        yield Target("serve", client.port, _draw, failures)
    for name in ("sprint_export", "uvicorn", "asyncio", "starlette"):
        logging.getLogger(name).removeHandler(failures)


def _draw(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", PATH, b'{"prompt": "a red circle", "seed": 3}', {"Content-Type": "application/json"})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    pictures = json.loads(data).get("data", [{}])
    return f"{answer.status} {hashlib.sha256(str(pictures[0].get('b64_json')).encode()).hexdigest()[:12]}"


@contextlib.contextmanager
def showing(folder: Path) -> Iterator[Target]:
    """`demo` with a site of three files, in a thread."""
    (folder / "site").mkdir()
    (folder / "site" / "model.onnx").write_bytes(b"graph")
    (folder / "secret").write_bytes(SECRET)
    files = [
        SiteFile("index.html", "page", 3, "1" * 64, content=b"yes"),
        SiteFile("bundle/model.onnx", "bundle", 5, "2" * 64, folder / "site", "model.onnx"),
    ]
    failures = Failures()

    def log(line: str) -> None:
        if "failed" in line:
            failures.said.append(line)

    with open_server(Site("made", {file.url: file for file in files}), "127.0.0.1", 0, log=log) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield Target("demo", server.server_port, lambda port: _fetch(server), failures)
        finally:
            server.shutdown()
            thread.join()


def _fetch(server: SiteServer) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request("GET", "/bundle/model.onnx")
    answer = connection.getresponse()
    said = f"{answer.status} {answer.read()!r}"
    connection.close()
    return said
