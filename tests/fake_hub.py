"""A Hugging Face hub of one repository on loopback: enough of its HTTP for huggingface_hub to read and to write files."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

TOKEN = "hf_of_tests"  # the one that may write
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """A repository's files by path; `asked` lists the requests."""

    repo: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)  # that it says, where they are not those of the files
    made: dict[str, Any] = field(default_factory=dict)  # what a repository was created with
    address: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """What leads huggingface_hub here."""
        return {"HF_ENDPOINT": self.address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}

    def describe(self, path: str) -> dict[str, Any]:
        """A file as the hub lists it."""
        return {"type": "file", "path": path, "oid": COMMIT, "size": self.sizes.get(path, len(self.files[path]))}


def _make_handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            return

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append(f"{self.command} {path}")
            prefix = f"/{hub.repo}/resolve/{COMMIT}/"
            if path == "/api/whoami-v2":
                is_known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                if is_known:
                    self._answer({"name": "somebody", "type": "user"})
                else:
                    self._send(401, b"", {})
            elif path.startswith(f"/api/models/{hub.repo}"):
                self._answer({"id": hub.repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in hub.files]})
            elif path.startswith(prefix) and (name := path.removeprefix(prefix)) in hub.files:
                data = hub.files[name]
                self._send(200, data, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT})
            else:
                self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

        def do_POST(self) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append(f"POST {path}")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Authorization") is None and not path.endswith(f"/paths-info/{COMMIT}"):
                self._send(401, b"", {})
            elif path.endswith(f"/paths-info/{COMMIT}"):
                is_json = "json" in self.headers.get("Content-Type", "")
                paths = json.loads(body)["paths"] if is_json else parse_qs(body.decode())["paths"]
                self._answer([hub.describe(name) for name in paths if name in hub.files])
            elif path == "/api/repos/create":
                hub.made.update(json.loads(body))
                self._answer({"url": f"{hub.address}/{hub.repo}"})
            elif path.endswith("/preupload/main"):
                self._answer(
                    {"files": [{**each, "uploadMode": "regular", "shouldIgnore": False} for each in json.loads(body)["files"]]}
                )
            elif path.endswith("/commit/main"):
                self._commit(body)
            elif path == "/api/validate-yaml":
                self._answer({"errors": [], "warnings": []})
            else:
                self._send(404, b"", {})

        def _commit(self, body: bytes) -> None:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                if line["key"] == "deletedFile":
                    hub.files.pop(line["value"]["path"], None)
            self._answer({"commitUrl": f"{hub.address}/{hub.repo}/commit/{COMMIT}", "commitOid": COMMIT, "hookOutput": ""})

        def _answer(self, value: Any) -> None:
            self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    return Handler


@contextmanager
def running_hub(repo: str) -> Iterator[FakeHub]:
    """The hub, until the block ends."""
    hub = FakeHub(repo)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(hub))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
