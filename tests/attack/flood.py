"""Campaign: many clients and strange ones at the two servers, `serve` and `demo`, which have to be there for the next one.

    burst     requests from 64 threads without a pause: each has one answer, its own picture or 429
    leavers   clients that close, half-close or reset in the midst of a drawing: nothing of theirs stays
    silent    connections that say half a request, or take an answer a few bytes at a time
    nested    JSON of every depth around what Python reads and cannot print
    hosts     names that a stranger's page had pointed here, and ways to spell a file beside the site
The log has no failure, memory does not grow with requests, and a right request is answered as before.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import struct
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

from sprint_export.process_memory import find_used_memory
from tests.attack.outcomes import CLEAN, HANG, OUTSIDE, RIGHT, TRACEBACK, WRONG, Tally
from tests.attack.raw_requests import MOST_S, REFUSED, SECRET, Target, post_request, send, serving, showing

NAME = "floods"
THREADS = 64
BURST = 200  # requests of one
MOST_GROWTH = 200e6  # bytes, of a process that has served many
DEPTHS = range(200, 1300)
HOSTS: tuple[str, ...] = (
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "localhost@evil",
    "[::1",
    "",
    "127.1",
)
HOSTS += ("0x7f000001", "2130706433", "169.254.169.254", "localhost:1", "127.0.0.1:{port}@evil", "evil\t127.0.0.1", "x" * 5000)
WAYS: tuple[str, ...] = (
    "../secret",
    "..%2fsecret",
    "%2e%2e/secret",
    "..%5csecret",
    "..\\secret",
    "%252e%252e%252fsecret",
    "..%c0%afsecret",
    "....//secret",
)
WAYS += (
    ".%00./secret",
    "bundle/../../secret",
    "bundle/%2e%2e/%2e%2e/secret",
    "/secret",
    "//secret",
    "bundle//../../secret",
    "..;/secret",
)
WAYS += (
    "%2e%2e%2f%2e%2e%2fsecret",
    "bundle/model.onnx/../../../secret",
    "file:///secret",
    "?../secret",
    "#../secret",
    "%u002e%u002e/secret",
)


def burst(target: Target, rng: random.Random) -> tuple[str, str]:
    """Each request has an answer of its own: what a right one gives, or 429."""

    def ask(_: int) -> str:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            return target.ask(target.port)
        return "none"

    with ThreadPoolExecutor(THREADS) as pool:
        answers = Counter("429" if found.startswith("429") else found for found in pool.map(ask, range(BURST)))
    odd = {found: count for found, count in answers.items() if found not in (target.right, "429")}
    return (WRONG if odd or target.failures.said else RIGHT), f"{answers}, log {target.failures.said[:2]}"


def leave(target: Target, rng: random.Random) -> tuple[str, str]:
    """Ways to go in the midst of it; then the server has nothing waiting."""
    held: list[socket.socket] = []
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", target.port), timeout=MOST_S)
        body = json.dumps({"prompt": "a red circle", "n": 2, "seed": rng.randrange(9)}).encode()
        whole = post_request(body, close=False) * rng.choice([1, 1, 3])
        with contextlib.suppress(OSError):
            connection.sendall(whole[: rng.choice([len(whole), len(whole), rng.randrange(len(whole))])])
        time.sleep(rng.uniform(0, 0.02))
        how = rng.choice(["close", "reset", "half", "hold"])
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "half":
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        if how in ("close", "reset"):
            connection.close()
        else:
            held.append(connection)
    for connection in held:
        connection.close()
    found, left = target.ask(target.port), _wait_until_idle(target)
    return (RIGHT if found == target.right and not left and not target.failures.said else WRONG), (
        f"{found}, {left} waiting, log {target.failures.said[:2]}"
    )


def _wait_until_idle(target: Target) -> int:
    if target.name != "serve":
        return 0
    waiting, deadline = -1, time.monotonic() + MOST_S
    while waiting and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=MOST_S)
        connection.request("GET", "/health")
        waiting = json.loads(connection.getresponse().read())["waiting"]
        connection.close()
    return waiting


def stay_silent(target: Target, rng: random.Random) -> tuple[str, str]:
    """Half a request each, and one that takes its answer slowly; a right one is answered beside them."""
    heads = [b"", b"G", b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", post_request(b"{}", length=50_000)[:-1]]
    with contextlib.ExitStack() as held:
        for _ in range(100):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", target.port), timeout=MOST_S))
            connection.sendall(rng.choice(heads))
        slow = held.enter_context(socket.create_connection(("127.0.0.1", target.port), timeout=MOST_S))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        slow.sendall(post_request(b'{"prompt": "a", "n": 2}', close=False))
        found = target.ask(target.port)
        with contextlib.suppress(OSError):
            slow.recv(10)
    return (RIGHT if found == target.right and not target.failures.said else WRONG), f"{found}, log {target.failures.said[:2]}"


def nest(target: Target, rng: random.Random) -> tuple[str, str]:
    """A value of some depth in some field."""
    depth, field = rng.choice(DEPTHS), rng.choice(["prompt", "size", "n", "quality", "x", "model", "response_format", "stream"])
    open_, close = rng.choice([("[", "]"), ('{"a":', "}")])
    body = f'{{"prompt": "a", "{field}": {open_ * depth}1{close * depth}}}'.encode()
    return _judge(*send(target.port, [post_request(body)], False), target, f"depth {depth} in {field}")


def pretend(target: Target, rng: random.Random) -> tuple[str, str]:
    """Another host's name, another site's origin, another way to spell a file."""
    own = f"127.0.0.1:{target.port}"
    host = rng.choice([own, rng.choice(HOSTS).format(port=target.port)])
    origin, way = rng.choice(["null", "https://evil.example", ""]), rng.choice(WAYS)
    path = rng.choice(
        [f"/{way}", f"/{quote(way)}", f"/v1/models/{way}", f"http://evil.example/{way}", "/bundle/model.onnx", "/v1/models"]
    )
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nConnection: close\r\n\r\n"
    said, is_late = send(target.port, [head.encode("latin-1", "replace")], False)
    outcome, seen = _judge(said, is_late, target, f"{path[:80]} of {host[:80]!r}")
    if outcome == RIGHT and host != own:
        return OUTSIDE, f"answered: {seen}"
    return outcome, seen


def _judge(said: bytes, is_late: bool, target: Target, what: str) -> tuple[str, str]:
    status = said.split(b" ", 2)[1].decode("latin-1") if said.startswith(b"HTTP/") else "none"
    seen = f"{what}: status {status}, log {target.failures.said[:2]}"
    if SECRET in said:
        return OUTSIDE, seen
    if target.failures.said or (status.startswith("5") and status not in REFUSED):
        target.failures.said.clear()
        return TRACEBACK, seen
    return (HANG if is_late else RIGHT if status == "200" else CLEAN), seen


ATTACKS: tuple[tuple[str, Callable[[Target, random.Random], tuple[str, str]], int], ...] = (
    ("burst", burst, 1),
    ("leavers", leave, 2),
    ("silent", stay_silent, 1),
    ("nested", nest, 6),
    ("hosts", pretend, 6),
)


def run(count: int, seed: int, tally: Tally) -> None:
    """Attack the servers `count` times; every attack first once."""
    with tempfile.TemporaryDirectory(prefix="flood-") as name, serving(Path(name)) as one, showing(Path(name)) as other:
        for target in (one, other):
            target.right = target.ask(target.port)
            target.ask(target.port)
        before = find_used_memory()
        for i in range(count):
            rng, target = random.Random(f"{seed}-{i}"), (one, other)[i % 2]
            index = i // 2
            kind, act, _ = (
                ATTACKS[index] if index < len(ATTACKS) else rng.choices(ATTACKS, [weight for _, _, weight in ATTACKS])[0]
            )
            outcome, seen = act(target, rng)
            tally.add(f"{target.name}: {kind}", outcome, f"{seed}-{i}: {seen}")
        for target in (one, other):
            found = target.ask(target.port)
            tally.add(f"{target.name}: a right request", RIGHT if found == target.right else WRONG, found)
        grown = find_used_memory() - before
        tally.add(
            "memory", HANG if grown > MOST_GROWTH else RIGHT, f"{grown / 1e6:.0f} MB more, {threading.active_count()} threads"
        )
