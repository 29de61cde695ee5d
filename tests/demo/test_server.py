"""The demo's server: the site's files with the headers that threads need, and nothing to anybody else."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sprint_export.demo.server import HEADERS, SiteServer, open_server
from sprint_export.demo.site_files import Site, SiteFile
from sprint_export.errors import InputError

PAGE = b"<!doctype html>"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    (tmp_path / "secret").write_bytes(b"secret")
    files = [
        SiteFile("index.html", "page", len(PAGE), "1" * 64, content=PAGE),
        SiteFile("bundle/a b.onnx", "bundle", 5, "2" * 64, tmp_path, "model.onnx"),
        SiteFile("vendor/x.wasm", "wasm", 0, "3" * 64, content=b""),
    ]
    return Site("made", {file.url: file for file in files})


@pytest.fixture
def server(site: Site) -> Iterator[SiteServer]:
    with open_server(site, "127.0.0.1", 0, log=lambda line: None) as opened:
        thread = threading.Thread(target=opened.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield opened
        finally:
            opened.shutdown()
            thread.join()


def ask(
    server: SiteServer, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer; the path is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in {"Host": f"127.0.0.1:{server.server_port}", **(headers or {})}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def test_a_file_comes_with_its_type_and_the_headers_that_threads_need(server: SiteServer) -> None:
    status, headers, body = ask(server, "/")
    assert (status, body, headers["Content-Type"]) == (200, PAGE, "text/html; charset=utf-8")
    assert {name: headers[name] for name in HEADERS} == HEADERS
    assert (headers["Cross-Origin-Opener-Policy"], headers["Cross-Origin-Embedder-Policy"]) == ("same-origin", "require-corp")
    assert "unsafe-inline" not in headers["Content-Security-Policy"]
    assert ask(server, "/vendor/x.wasm")[1]["Content-Type"] == "application/wasm"
    assert ask(server, "/bundle/a%20b.onnx?again=1")[2] == b"graph"


def test_a_file_that_a_browser_has_is_not_sent_again(server: SiteServer) -> None:
    tag = ask(server, "/bundle/a%20b.onnx")[1]["ETag"]
    assert ask(server, "/bundle/a%20b.onnx", headers={"If-None-Match": tag})[::2] == (304, b"")
    assert ask(server, "/bundle/a%20b.onnx", headers={"If-None-Match": '"other"'})[0] == 200


def test_a_head_has_no_body(server: SiteServer) -> None:
    status, headers, body = ask(server, "/bundle/a%20b.onnx", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "5", b"")


@pytest.mark.parametrize(
    "path",
    [
        "/secret",
        "/../secret",
        "/bundle/../secret",
        "/bundle/%2e%2e/secret",
        "//secret",
        "/bundle",
        "/bundle/",
        "/%00",
        "/%ff",
        "secret",
    ],
)
def test_what_is_not_in_the_list_is_not_served(server: SiteServer, path: str) -> None:
    status, _, body = ask(server, path)
    assert (status, body) == (404, b"no such file\n")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "a@127.0.0.1:{port}", "[", ""]
)
def test_another_host_is_refused(server: SiteServer, host: str) -> None:
    status, _, body = ask(server, "/", headers={"Host": host.format(port=server.server_port)})
    assert status == 421
    assert PAGE not in body


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}"])
def test_its_own_names_are_answered(server: SiteServer, host: str) -> None:
    assert ask(server, "/", headers={"Host": host.format(port=server.server_port)})[0] == 200


def test_other_methods_are_refused(server: SiteServer) -> None:
    assert ask(server, "/", "POST", {"Content-Length": "0"})[0] == 501


@pytest.mark.parametrize("content", [b"longer than it was", None])
def test_a_file_that_changed_is_not_served(server: SiteServer, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is None:
        path.unlink()
        path.symlink_to(tmp_path / "secret")
    else:
        path.write_bytes(content)
    status, _, body = ask(server, "/bundle/a%20b.onnx")
    assert status == 409
    assert body == b"bundle/a b.onnx has changed since the demo was started: start it again\n"


def test_a_taken_port_is_said_and_the_next_free_one_is_found(site: Site) -> None:
    with open_server(site, "127.0.0.1", None, print) as first, open_server(site, "127.0.0.1", None, print) as second:
        assert first.server_port != second.server_port
        with pytest.raises(InputError, match=rf"--port {first.server_port} is taken"):
            open_server(site, "127.0.0.1", first.server_port, print)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "x" * 300])
def test_a_host_that_is_not_this_machine_is_refused(site: Site, host: str) -> None:
    with pytest.raises(InputError, match="no address of this machine; the default is 127"):
        open_server(site, host, 0, print)


def test_a_server_that_is_open_to_others_answers_addresses_and_its_own_name(site: Site) -> None:
    with open_server(site, "0.0.0.0", 0, print) as server:
        assert server.url == f"http://localhost:{server.server_port}/"
        answered = ["localhost", "10.0.0.7", "[::1]", socket.gethostname().upper()]
        assert all(server.is_own_host(f"{name}:{server.server_port}") for name in answered)
        assert not server.is_own_host(f"evil.example:{server.server_port}")


@pytest.mark.skipif(not socket.has_ipv6, reason="this system has no IPv6")
def test_the_other_loopback_address_has_brackets(site: Site) -> None:
    try:
        server = open_server(site, "::1", 0, print)
    except InputError:
        pytest.skip("this machine has no IPv6 loopback")
    with server:
        assert server.url == f"http://[::1]:{server.server_port}/"
        assert server.is_own_host(f"[::1]:{server.server_port}")
