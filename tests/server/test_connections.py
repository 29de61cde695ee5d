"""Connections of clients that say nothing, half of a request, or are too many: let go, while others are served."""

from __future__ import annotations

import contextlib
import http.client
import re
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sprint_export.server import Settings
from sprint_export.server.connections import FULL, make_room
from tests.attack.raw_requests import post_request
from tests.bundles import shared_bundle
from tests.command_server import COMMAND
from tests.server.test_serving import Client, running

PATIENCE_S = 30.0  # of a client: a server that never lets go is found by it
HALF = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "
FILES = 256


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8")


@contextlib.contextmanager
def connected(port: int, *said: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        for piece in said:
            connection.sendall(piece)
        yield connection


def receive_answer(connection: socket.socket) -> bytes:
    """A whole answer of a connection that is kept."""
    said = b""
    while b"\r\n\r\n" not in said:
        said += connection.recv(4096)
    length = re.search(rb"content-length: (\d+)", said)
    assert length is not None
    while len(said.partition(b"\r\n\r\n")[2]) < int(length[1]):
        said += connection.recv(4096)
    return said


def test_who_says_nothing_or_half_a_request_is_let_go_at_first_and_later(bundle: Path) -> None:
    with running(bundle, head_seconds=0.3) as client:
        for said in ((), (HALF,), (b"G",)):
            with connected(client.port, *said) as connection:
                assert connection.recv(4096) == b""
        with connected(client.port, HALF, b"y\r\n\r\n") as connection:
            assert b" 200 OK" in receive_answer(connection)
            connection.sendall(HALF)
            assert connection.recv(4096) == b""
        assert client.ask("GET", "/health").status == 200


def test_a_body_and_a_drawing_may_take_longer_than_a_head(bundle: Path) -> None:
    with running(bundle, head_seconds=0.3) as client:
        body = b'{"prompt": "a red circle", "seed": 1, "n": 10}'
        whole = post_request(body, close=False)
        with connected(client.port, whole[: -len(body) + 5]) as connection:
            connection.settimeout(1.0)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            connection.settimeout(PATIENCE_S)
            connection.sendall(body[5:])
            assert receive_answer(connection).startswith(b"HTTP/1.1 200 OK")


def test_one_too_many_is_told_to_come_again_and_room_is_given_back(bundle: Path) -> None:
    with running(bundle, most=3) as client:
        with contextlib.ExitStack() as held:
            for _ in range(3):
                held.enter_context(connected(client.port, HALF))
            with connected(client.port) as late:
                assert late.recv(4096) == FULL
        wait_until_served(client)


def wait_until_served(client: Client) -> None:
    """The server notices in its own time that connections were closed."""
    for _ in range(1000):
        with contextlib.suppress(http.client.HTTPException, OSError):
            if client.ask("GET", "/health").status == 200:
                return
    pytest.fail("no room was given back")


def test_a_process_of_few_files_is_never_without_one(bundle: Path, tmp_path: Path) -> None:
    limits = (FILES, FILES)
    process = subprocess.Popen(
        [COMMAND, "serve", bundle, "--port", "0"], stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits),
    )  # fmt: skip
    assert process.stderr is not None
    match = re.search(r"127\.0\.0\.1:(\d+)/v1", process.stderr.readline())
    assert match is not None
    with contextlib.ExitStack() as held:
        for _ in range(2 * FILES):
            held.enter_context(connected(int(match[1]), HALF))
    wait_until_served(Client(int(match[1])))
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert process.stderr.read() == "stopped\n"


def test_room_is_made_for_what_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_to.append(limits))
    for limits, raised, room in (
        ((1024, 1 << 20), (5248, 1 << 20), (4096, 1024)),
        ((1024, resource.RLIM_INFINITY), (5248, resource.RLIM_INFINITY), (4096, 1024)),
        ((256, 1024), (1024, 1024), (640, 256)),
        ((100, 100), None, (1, 25)),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None, (4096, 1024)),
    ):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=limits: limits)
        assert make_room() == room
        assert set_to == ([] if raised is None else [raised])
        set_to.clear()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "0:0:0:0:0:0:0:1", "localhost"])
def test_every_address_of_loopback_is_one(host: str) -> None:
    assert Settings(host).is_loopback
    assert not any(Settings(other).is_loopback for other in ("0.0.0.0", "::", "192.168.0.1", "localhost.example.com", ""))
